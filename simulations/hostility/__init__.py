"""Hostile sites of a simulation: their attacks, and what becomes of the head."""
