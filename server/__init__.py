"""The coordinator: the round loop, admission, strategies and its Flower ServerApp."""
