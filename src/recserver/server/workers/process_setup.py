"""What only a process of its own may do: logging, signals, exit statuses."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import logging
import os
import signal
import sys
from typing import Any, NoReturn

from recserver.core.errors import DataFolderInUse, RecServerError

EXIT_CANNOT_START = 2
"""Exit status when the settings or the surroundings do not allow what was asked."""

EXIT_IN_USE = 3
"""Exit status when another server has the data folder."""


def replace_unencodable() -> None:
    """A terminal of few characters is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def exit_with_error(error: RecServerError) -> NoReturn:
    """End the process with the sentence of an error, and the status that belongs to it."""
    sys.stderr.write(f"recserver: {error}\n")
    sys.exit(EXIT_IN_USE if isinstance(error, DataFolderInUse) else EXIT_CANNOT_START)


def configure_logging(log_format: str, level: int = logging.INFO) -> None:
    """One line an event on standard error: for people on a terminal, as JSON elsewhere."""
    import structlog  # not every command has something to log

    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    # An id may hold anything, a line break included: both renderings escape it, so that no line can be forged.
    renderer: Any = structlog.processors.JSONRenderer() if as_json else _ConsoleRenderer()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("recserver").setLevel(level)


class _ConsoleRenderer:
    """``2026-01-02T03:04:05Z warning  the sentence``, its control characters escaped."""

    def __call__(self, _: Any, __: str, event: dict[str, Any]) -> str:
        moment, level = event.pop("timestamp", ""), event.pop("level", "")
        sentence = "".join(one if one.isprintable() else repr(one)[1:-1] for one in str(event.pop("event", "")))
        trace = event.pop("exception", "")
        more = "".join(f" {key}={value!r}" for key, value in event.items())
        return f"{moment[:19]}Z {level:<8} {sentence}{more}" + (f"\n{trace}" if trace else "")


def freeze_gc() -> None:
    """Let collections of garbage look only at what comes from now on.

    Modules and all that belongs to a server stay until its process ends. To look through them takes a tenth of a
    second now and then, in which nobody is answered.
    """
    gc.collect()
    gc.freeze()


def stop_event() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set from now on. The second of them ends the process at once."""
    told = asyncio.Event()

    def stop() -> None:
        if told.is_set():
            os._exit(130)
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels the main task instead
            loop.add_signal_handler(number, stop)
    return told
