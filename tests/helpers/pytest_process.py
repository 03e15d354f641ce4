"""pytest in a process of its own, for tests that the documentation shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_pytest(
    folder: Path, tests: Mapping[str, str], *options: str, python_path: Sequence[Path] = ()
) -> list[str]:
    """Run files of tests, all of which must pass, with no other plugins than those in ``options``.

    Args:
        tests: content by the name of a file, which is written into the folder.

    Returns:
        The tests, as pytest names them: ``test_logs.py::TestLogs::test_entries``.
    """
    for name, content in tests.items():
        (folder / name).write_text(content, encoding="utf-8")
    path = os.pathsep.join(str(part) for part in python_path)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-v",
            "-p",
            "no:cacheprovider",
            *options,
            "--rootdir",
            str(folder),
            *tests,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ends = dict(re.findall(r"^(\S+::\S+) ([A-Z]+) ", done.stdout, re.MULTILINE))
    assert set(ends.values()) == {"PASSED"}, done.stdout
    return list(ends)
