"""Models and their versions: stored, checked, loaded, promoted, repaired."""
