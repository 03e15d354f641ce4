"""RecServer: its settings and its parts, opened and closed in order."""
