"""Where trainings, previews and exports run: worker processes."""
