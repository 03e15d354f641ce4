"""Validation of values in requests and files, and messages about invalid ones."""
