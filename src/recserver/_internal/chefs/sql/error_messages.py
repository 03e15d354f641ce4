"""Error messages for exceptions of database drivers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

from recserver._internal.chefs.secrets import scrub
from recserver._internal.core.errors import SourceFailed

MAX_ERROR_CHARS = 200
"""Characters of a driver's error message that are quoted."""

RowChunk = tuple[tuple[str, ...], list[tuple[Any, ...]]]
"""Column names of a query's result, and some of its rows."""

_CANNOT_CONNECT = "The database cannot be reached"
_CONNECTION_LOST = "The connection was lost"
_QUERY_CANCELLED = "The query was stopped on the database server"

_TIMEOUT_CODES = frozenset({3024, 1969})  # MySQL, MariaDB
_CANCELLED_CODES = frozenset({"57014", 1317})


class _ErrorRule(NamedTuple):
    """The codes and message of an error, and its remedy; ``write_hint`` applies to exports."""

    codes: frozenset[str | int]
    pattern: re.Pattern[str]
    read_hint: str
    write_hint: str | None = None


# Codes are those of PostgreSQL (text) and of MySQL (numbers). Errors while connecting, and all errors of the ADBC
# driver for PostgreSQL, have no code: they are recognised by their English text.
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
        f"{_CONNECTION_LOST}: train again, and if it happens again, contact the database administrator",
        f"{_CONNECTION_LOST}: export again, and if it happens again, contact the database administrator",
    ),
    _ErrorRule(
        frozenset(),
        re.compile(r"support SSL|SSL is required|SSL connection is|certificate|ssl_?error|\bTLS\b", re.IGNORECASE),
        "Correct the TLS parameters of the connection, or the TLS configuration of the database server",
    ),
    _ErrorRule(
        frozenset({"42P01", "42703", "42601", "42883", 1054, 1064, 1146, 1305}),
        re.compile(r"^no such (table|column|function)|^(relation|column) .+ does not exist"),
        "Correct the query",
        "Give another table, or correct this one",
    ),
    _ErrorRule(
        frozenset({"42501", 1142, 1143, 1227, 1370}),
        re.compile(r"^permission denied"),
        "Grant the database user read access to the tables of the query",
        "Grant the database user the privileges to create, read and change the table",
    ),
    _ErrorRule(
        frozenset(),
        re.compile(r"^attempt to write a readonly database"),
        "A program was killed while it wrote to the file: open it once with one that may write, which repairs it",
        "Give recserver write access to the file and its folder, or use another file",
    ),
)  # fmt: skip
_CANNOT_CONNECT_PATTERN = re.compile(
    r"can't connect|connection (refused|timed out|timeout|reset)|timeout expired|unreachable|no route",
    re.IGNORECASE,
)
_SEVERITY = re.compile(r"^.*?\w+: {2}(?=\S)")  # "ERROR:  ", in the language of the server
_PREFIXES = re.compile(
    r"^(connection failed: |connection to server .*? failed: |consuming input failed: |PQ\w+\(\) failed: "
    r"|[A-Z_]+: |\[libpq\] )+"
)


@contextmanager
def raise_timeout(timed_out: Callable[[], bool]) -> Iterator[None]:
    """After a timeout, raise TimeoutError in place of the driver's error for the interrupted query."""
    try:
        yield
    except Exception:
        if timed_out():
            raise TimeoutError from None
        raise


def source_failure(error: Exception, secrets: Iterable[str], seconds: float) -> SourceFailed:
    """The SourceFailed for an error of a driver; transient if a retry may succeed."""
    message = error_message(error, secrets, seconds)
    transient = any(text in message for text in (_CANNOT_CONNECT, _CONNECTION_LOST, _QUERY_CANCELLED))
    return SourceFailed(message, transient=transient)


def error_message(error: Exception, secrets: Iterable[str], seconds: float, *, writing: bool = False) -> str:
    """The message for an error of a driver: its first line, without secrets, and the remedy.

    Args:
        secrets: as written; percent-encoded forms are removed as well.
        seconds: the time limit of the query.
        writing: whether a table was being written, not read.
    """
    cause = getattr(error, "orig", None) or error
    candidates = (getattr(cause, "sqlstate", None), cause.args[0] if len(cause.args) > 1 else None)
    codes = {code for code in candidates if isinstance(code, str | int)}
    if isinstance(cause, TimeoutError) or codes & _TIMEOUT_CODES:
        return (
            f"The query took longer than {seconds:g} seconds: make it faster, or raise RECSERVER_SOURCE_TIMEOUT."
        )
    message = _driver_message(cause, secrets)
    if codes & _CANCELLED_CODES or "canceling statement" in message:
        return f"{_QUERY_CANCELLED}: {message}. {'Export' if writing else 'Train'} again."
    for rule in _ERROR_RULES:
        if codes & rule.codes or rule.pattern.search(message):
            return f"The database reported: {message}. {(writing and rule.write_hint) or rule.read_hint}."
    if _CANNOT_CONNECT_PATTERN.search(message):
        return f"{_CANNOT_CONNECT}: {message}. Check its host and port, and that it is running."
    checked = "the table" if writing else "the query"
    return f"The database reported: {message}. Check {checked} and the connection."


def _driver_message(cause: BaseException, secrets: Iterable[str]) -> str:
    """The first line of an error's message, without the prefixes of the driver."""
    plain = list(secrets)
    encoded = [form for one in plain for form in (quote(one, safe=""), quote(one, safe=" +"), quote_plus(one))]
    lines = scrub(str(cause.args[-1] if cause.args else ""), {*plain, *encoded}).strip().splitlines()
    first = lines[0] if lines else type(cause).__name__
    if (prefixes := _PREFIXES.match(first)) is not None:
        first = first[prefixes.end() :]
        first = _SEVERITY.sub("", first) or first
    return " ".join(first.split())[:MAX_ERROR_CHARS].rstrip(".")
