"""From the rows of a source to interactions and to attributes of items."""
