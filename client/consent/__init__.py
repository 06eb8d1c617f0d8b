"""What a site agrees to: its limits and its privacy budget."""
