"""Recommendations from a trained model in memory. Depends on NumPy only."""
