"""What everything else stands on: errors, time, events, and the tasks and processes that are started."""
