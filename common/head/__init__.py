"""The trainable head: its shape, its cost, its metrics, and the exported model."""
