"""Differential privacy: what bounds a unit's share in a sum, the noise on it, and what that costs."""
