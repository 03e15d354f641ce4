"""The commands, a module each with a Typer application ``app``. They are imported when they are run."""
