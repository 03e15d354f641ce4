"""What worker processes run: trainings, from reading the source to the packed file, and evaluations."""
