"""What people write, checked: ids and numbers, model configs, task files, chef entries, training jobs."""
