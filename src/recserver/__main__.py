"""``python -m recserver``: the command line."""

from recserver._internal.cli import main

if __name__ == "__main__":
    main()
