"""Images and features of a site: where they come from, how they are split, what is checked."""
