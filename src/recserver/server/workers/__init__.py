"""Several processes that serve one data folder on one port, and what only a process of its own may do."""
