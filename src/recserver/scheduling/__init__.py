"""When tasks run: the scheduler, its loops, and what is remembered of runs."""
