"""Recommendations for everybody, written to a file or a table."""
