"""``auto``: whichever of several algorithms suits the data."""
