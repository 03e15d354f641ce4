"""``auto``: selects the best of several algorithms for the data."""
