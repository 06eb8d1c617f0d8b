"""Audits of differential privacy: what a mechanism is seen to give away, against the ε that it claims."""
