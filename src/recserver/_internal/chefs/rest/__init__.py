"""HTTP APIs as sources."""
