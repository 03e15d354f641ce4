"""The results of all operations: what the library returns, and what the HTTP API sends as JSON."""
