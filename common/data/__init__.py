"""A site's images: where they come from, how they are split, what is checked."""
