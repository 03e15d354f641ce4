"""The OpenAPI document. It follows from the operations: their traits, types and docstrings."""
