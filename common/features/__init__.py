"""Feature vectors: their store on disk, and how images become features."""
