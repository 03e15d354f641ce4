"""Algorithms: from interactions to factors, and how well a ranking foretells what users take."""
