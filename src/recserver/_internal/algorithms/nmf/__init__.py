"""The nmf family: non-negative matrix factorisation with a neighbour term."""
