"""Answers: from a trained model in memory to the items a user is recommended. numpy only."""
