"""One site: its data, its trainer and its Flower ClientApp."""
