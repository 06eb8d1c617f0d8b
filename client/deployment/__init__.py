"""A site on a network: its settings and its say, its key, the warm worker, and Flower's SuperNode around it."""
