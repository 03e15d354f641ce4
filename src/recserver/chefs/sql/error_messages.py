"""Errors of database drivers as messages for whoever wrote the data chef."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

from recserver.chefs.secrets import scrub
from recserver.core.errors import SourceFailed

MAX_ERROR_CHARS = 200
"""Characters of a driver's error message that are passed on."""

RowChunk = tuple[tuple[str, ...], list[tuple[Any, ...]]]
"""Column names of a query's result, and some of its rows."""

_CANNOT_CONNECT = "The database cannot be reached"
_CONNECTION_LOST = "The connection broke off"
_QUERY_CANCELLED = "The query was stopped on the database server"

_TIMEOUT_CODES = frozenset({3024, 1969})  # MySQL, MariaDB
_CANCELLED_CODES = frozenset({"57014", 1317})


class _ErrorRule(NamedTuple):
    """The codes or text of a driver's error, and the hint for it; ``write_hint`` applies to exports."""

    codes: frozenset[str | int]
    pattern: re.Pattern[str]
    read_hint: str
    write_hint: str | None = None


# Codes are those of PostgreSQL (text) and of MySQL (numbers). Errors of connecting, and all errors of the quick
# driver for PostgreSQL, have no code: they are known by their text, in English at least.
_ERROR_RULES: tuple[_ErrorRule, ...] = (
    _ErrorRule(
        frozenset({"28P01", "28000", 1045, 1698}),
        re.compile(r"password authentication failed|no password supplied|no pg_hba\.conf entry|role .+ exist"),
        "Correct the user and the password",
    ),
    _ErrorRule(
        frozenset({"3D000", 1044, 1049}),
        re.compile(r'^database ".+" does not exist'),
        "Correct the name of the database",
    ),
    _ErrorRule(
        frozenset(),
        re.compile(r"cryptography.* package is required"),
        "Set ssl: true in db_config, or: pip install cryptography",
    ),
    _ErrorRule(
        frozenset({"57P01", "57P02", "57P03", "08006", "08003", 1053, 1927, 2006, 2013}),
        re.compile(r"terminating connection|connection has been closed|closed the connection|unexpected eof|EOF "),
        f"{_CONNECTION_LOST}: train again, and if it happens again, ask whoever runs the database",
        f"{_CONNECTION_LOST}: export again, and if it happens again, ask whoever runs the database",
    ),
    _ErrorRule(
        frozenset(),
        re.compile(r"support SSL|SSL is required|SSL connection is|certificate|ssl_?error|\bTLS\b", re.IGNORECASE),
        "Correct the encryption: the parameters of the connection, or TLS on the database server",
    ),
    _ErrorRule(
        frozenset({"42P01", "42703", "42601", "42883", 1054, 1064, 1146, 1305}),
        re.compile(r"^no such (table|column|function)|^(relation|column) .+ does not exist"),
        "Correct the query",
        "Name another table, or correct this one",
    ),
    _ErrorRule(
        frozenset({"42501", 1142, 1143, 1227, 1370}),
        re.compile(r"^permission denied"),
        "Let the user of the connection read what the query asks for",
        "Let the user of the connection make, read and change the table",
    ),
    _ErrorRule(
        frozenset(),
        re.compile(r"^attempt to write a readonly database"),
        "A program was killed while it wrote to the file: open it once with one that may write, which undoes that",
        "Let whoever runs recserver write to the file and its folder, or name another",
    ),
)  # fmt: skip
_CANNOT_CONNECT_PATTERN = re.compile(
    r"can't connect|connection (refused|timed out|timeout|reset)|timeout expired|unreachable|no route",
    re.IGNORECASE,
)
_SEVERITY = re.compile(r"^.*?\w+: {2}(?=\S)")  # "ERROR:  ", in whatever language the server speaks
_PREFIXES = re.compile(
    r"^(connection failed: |connection to server .*? failed: |consuming input failed: |PQ\w+\(\) failed: "
    r"|[A-Z_]+: |\[libpq\] )+"
)


@contextmanager
def raise_timeout(timed_out: Callable[[], bool]) -> Iterator[None]:
    """After a timeout, raise TimeoutError in place of any error of the driver, which interrupts the query."""
    try:
        yield
    except Exception:
        if timed_out():
            raise TimeoutError from None
        raise


def source_failure(error: Exception, secrets: Iterable[str], seconds: float) -> SourceFailed:
    """The SourceFailed for an error of a driver; transient if the server may be back soon."""
    message = error_message(error, secrets, seconds)
    transient = any(text in message for text in (_CANNOT_CONNECT, _CONNECTION_LOST, _QUERY_CANCELLED))
    return SourceFailed(message, transient=transient)


def error_message(error: Exception, secrets: Iterable[str], seconds: float, *, writing: bool = False) -> str:
    """The message for an error of a driver: what it says, without secrets, and what to do.

    Args:
        secrets: as written; percent-encoded forms are removed as well.
        seconds: the time limit of the query.
        writing: whether a table was being written, not read.
    """
    cause = getattr(error, "orig", None) or error
    numbers = (getattr(cause, "sqlstate", None), cause.args[0] if len(cause.args) > 1 else None)
    given = {one for one in numbers if isinstance(one, str | int)}
    if isinstance(cause, TimeoutError) or given & _TIMEOUT_CODES:
        return (
            f"The query took longer than {seconds:g} seconds: make it quicker, or raise RECSERVER_SOURCE_TIMEOUT."
        )
    said = _driver_message(cause, secrets)
    if given & _CANCELLED_CODES or "canceling statement" in said:
        return f"{_QUERY_CANCELLED}: {said}. {'Export' if writing else 'Train'} again."
    for cure in _ERROR_RULES:
        if given & cure.codes or cure.pattern.search(said):
            return f"The database answered: {said}. {(writing and cure.write_hint) or cure.read_hint}."
    if _CANNOT_CONNECT_PATTERN.search(said):
        return f"{_CANNOT_CONNECT}: {said}. Check its host and port, and that it is running."
    what = "the table" if writing else "the query"
    return f"The database answered: {said}. Check {what} and the connection."


def _driver_message(cause: BaseException, secrets: Iterable[str]) -> str:
    """The first line of an error, without the prefixes of the driver."""
    known = list(secrets)
    encoded = [form for one in known for form in (quote(one, safe=""), quote(one, safe=" +"), quote_plus(one))]
    lines = scrub(str(cause.args[-1] if cause.args else ""), {*known, *encoded}).strip().splitlines()
    first = lines[0] if lines else type(cause).__name__
    if (prefixes := _PREFIXES.match(first)) is not None:
        first = first[prefixes.end() :]
        first = _SEVERITY.sub("", first) or first
    return " ".join(first.split())[:MAX_ERROR_CHARS].rstrip(".")
