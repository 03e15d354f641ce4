"""Data chefs: named sources of interactions, and of the attributes of items."""
