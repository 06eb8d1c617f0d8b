"""The trainable part: its shape, its cost, its metrics, and the whole model that is saved."""
