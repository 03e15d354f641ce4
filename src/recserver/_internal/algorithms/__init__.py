"""Algorithms: from interactions to fitted models, and the evaluation of their rankings."""
