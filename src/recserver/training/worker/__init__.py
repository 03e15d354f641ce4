"""The workshop: one synchronous training, from reading its source to a packed file, in a worker process."""
