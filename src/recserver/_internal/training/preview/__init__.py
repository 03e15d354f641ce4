"""The first rows of a source, and what should be changed."""
