"""Setup that only a dedicated process may do: logging, signals, exit statuses."""

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

from recserver._internal.core.errors import DataFolderInUse, RecServerError, escape

EXIT_CANNOT_START = 2
"""Exit status if the settings or the system do not allow the server to start."""

EXIT_IN_USE = 3
"""Exit status if another server writes the data folder."""


def replace_unencodable() -> None:
    """Replace characters that the terminal cannot show, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def exit_with_error(error: RecServerError) -> NoReturn:
    """Print an error and end the process with its exit status."""
    sys.stderr.write(f"recserver: {error}\n")
    sys.exit(EXIT_IN_USE if isinstance(error, DataFolderInUse) else EXIT_CANNOT_START)


def configure_logging(log_format: str, level: int = logging.INFO) -> None:
    """Log to standard error, one line for each event: plain text on a terminal, else JSON."""
    import structlog  # not every command logs

    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    # An id may contain line breaks: both renderers escape them, so that no log line can be forged.
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
    """``2026-01-02T03:04:05Z warning  the message``, with escaped control characters."""

    def __call__(self, _: Any, __: str, event: dict[str, Any]) -> str:
        time, level = event.pop("timestamp", ""), event.pop("level", "")
        message = escape(str(event.pop("event", "")))
        trace = event.pop("exception", "")
        extra = "".join(f" {key}={value!r}" for key, value in event.items())
        return f"{time[:19]}Z {level:<8} {message}{extra}" + (f"\n{trace}" if trace else "")


def freeze_gc() -> None:
    """Exclude all present objects from garbage collection.

    Modules and the components of a server exist until the process ends. Collecting them would block the event loop
    for a tenth of a second now and then.
    """
    gc.collect()
    gc.freeze()


def stop_event() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set. The second signal ends the process immediately."""
    requested = asyncio.Event()

    def stop() -> None:
        if requested.is_set():
            os._exit(130)
        requested.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels the main task instead
            loop.add_signal_handler(number, stop)
    return requested
