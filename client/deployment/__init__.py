"""A site on a network: its settings and consent, its key, the warm worker, and Flower's SuperNode."""
