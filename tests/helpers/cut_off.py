"""A program that is killed while it writes to an SQLite file, of which a journal stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE visits SET user_id = 'half'")
os._exit(9)
"""


def cut_off_in(file: Path) -> None:
    """Leave a file, which has a table ``visits`` of many rows, as such a program does."""
    subprocess.run([sys.executable, "-c", _PROGRAM, str(file)], check=False)
