"""Calls of the command line within this process, where a new process would show nothing more."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from rich.console import Console
from stamina.instrumentation import get_on_retry_hooks, set_on_retry_hooks

from recserver._internal.cli import main, output

IGNORED_WARNINGS = DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning
"""The warnings that Python ignores by default."""


class Result(NamedTuple):
    """The result of a command."""

    status: int
    out: str
    err: str


Command = Callable[..., Result]
"""Runs ``recserver ARGUMENTS``; keyword arguments are environment variables."""


def call(folder: Path, *arguments: str, **environment: str) -> Result:
    """Run ``recserver ARGUMENTS`` in a folder, by the entry point of the installed script.

    It may also be called from another thread than the main one, except for commands that handle signals.
    """
    out, err = (TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err), _state_of_a_new_process(folder, arguments, environment):
        status = _exit_status()
    return Result(status, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def _exit_status() -> int:
    """The exit status of the entry point, as Python derives it from how the call ends."""
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@contextmanager
def _state_of_a_new_process(
    folder: Path, arguments: tuple[str, ...], environment: dict[str, str]
) -> Iterator[None]:
    """Set what a command finds in a new process, and restore everything that it may change in this one."""
    with ExitStack() as stack:
        stack.enter_context(chdir(folder))
        stack.enter_context(patch.dict(os.environ, {"COLUMNS": "160", **environment}))
        stack.enter_context(patch.object(sys, "argv", ["recserver", *arguments]))
        stack.enter_context(patch.object(sys, "excepthook", sys.excepthook))  # Typer replaces it
        stack.enter_context(patch.object(logging.root, "handlers", []))  # log lines go to standard error
        stack.callback(setattr, logger := logging.getLogger("recserver"), "level", logger.level)
        stack.enter_context(warnings.catch_warnings())
        warnings.resetwarnings()
        for kind in IGNORED_WARNINGS:
            warnings.simplefilter("ignore", kind)
        warnings.showwarning = _print_warning
        for console in (output.console, output.error_console):  # which read the environment when they are created
            new = Console(stderr=console.stderr, highlight=False, soft_wrap=console.soft_wrap)
            stack.enter_context(patch.dict(vars(console), vars(new)))
        stack.callback(set_on_retry_hooks, get_on_retry_hooks())
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.getsignal(number))
        yield


def _print_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))
