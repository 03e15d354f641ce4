"""How commands are declared: the options that several share, and errors as one sentence and an exit status."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from typer import Option

from recserver._internal.cli.output import print_error
from recserver._internal.core.errors import RecServerError

EXIT_FAILED = 1
"""Exit status of a command that could not do what was requested."""

EXIT_USAGE = 2
"""Exit status for an option that is wrong."""

AsJson = Annotated[bool, Option("--json", help="As JSON, for programs.")]
ExistingFolder = Annotated[
    Path, Option("--data", envvar="RECSERVER_DATA", help="Data folder, with config/ and models/; it must exist.")
]

P = ParamSpec("P")


class UsageError(RecServerError):
    """An option, or the environment variable that replaces it, cannot be used."""


def new_app(name: str | None = None, summary: str | None = None) -> typer.Typer:
    """A Typer application for a command, or a group of commands."""
    return typer.Typer(name=name, help=summary, no_args_is_help=True, add_completion=False)


def command(
    app: typer.Typer, name: str | None = None, summary: str | None = None
) -> Callable[[Callable[P, Coroutine[Any, Any, None] | None]], Callable[P, None]]:
    """Register a function, also an async one, as a command of ``app``.

    A :class:`RecServerError` becomes one sentence on standard error and exit status 1, or 2 for a
    :class:`UsageError`, so that scripts can tell wrong options from failures.

    Args:
        name: of the command; that of the function if it is None.
        summary: its help; the docstring of the function if it is None.
    """

    def register(function: Callable[P, Coroutine[Any, Any, None] | None]) -> Callable[P, None]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                result = function(*args, **kwargs)
                if inspect.iscoroutine(result):
                    asyncio.run(result)
            except RecServerError as error:
                print_error(str(error))
                sys.exit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)

        app.command(name, help=summary)(run)
        return run

    return register


def checked_by(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A callback for options: the value as ``parse`` returns it; its ValueError refuses the value."""

    def check(value: Any) -> Any:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return check


@contextmanager
def usage_error_from(kind: type[Exception], message: str = "{}") -> Iterator[None]:
    """Raise exceptions of ``kind`` as a :class:`UsageError`, their text put into ``message``."""
    try:
        yield
    except kind as error:
        raise UsageError(message.format(error)) from None
