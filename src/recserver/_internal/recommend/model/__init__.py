"""A trained model in memory: its arrays, and the attributes of its items."""
