"""What all other packages use: errors, time, events, and the tasks and processes that are started."""
