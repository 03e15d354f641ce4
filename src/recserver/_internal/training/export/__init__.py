"""Exports of the recommendations for all users to a file or a table."""
