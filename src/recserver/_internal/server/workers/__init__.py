"""Several processes that serve one data folder on one port, and setup that only dedicated processes may do."""
