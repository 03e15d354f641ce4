"""Files: written atomically, several at a time, locked, watched; and the format of model files."""
