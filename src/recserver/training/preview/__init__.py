"""A look at the first rows of a source, and what to change."""
