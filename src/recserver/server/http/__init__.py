"""The door: HTTP in, a verb called, JSON out."""
