"""RecServer: its settings, and its components, which are opened and closed in order."""
