"""``python -m recserver``: the command line."""

from recserver.cli import main

if __name__ == "__main__":
    main()
