"""Audits of differential privacy: what a mechanism is seen to give away, against its claimed ε."""
