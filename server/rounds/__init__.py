"""One round after another: what is asked, what comes back, the next head."""
