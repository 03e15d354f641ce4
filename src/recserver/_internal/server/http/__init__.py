"""The HTTP interface: requests become calls of operations, results become JSON."""
