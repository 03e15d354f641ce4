"""Scheduling of tasks: the scheduler, a loop for each task, triggers, retries and the run history."""
