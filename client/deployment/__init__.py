"""A site on a network: settings and consent, key, the warm worker, and Flower's SuperNode."""
