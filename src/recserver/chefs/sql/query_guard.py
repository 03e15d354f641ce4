"""Whether a query only reads: exactly one SELECT, told by a parser of the database's own dialect.

It is the first of two lines: every database that can is also opened so that it refuses to write.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from recserver.core.errors import quoted

SQLGLOT_DIALECTS = {
    "sqlite": "sqlite",
    "postgresql": "postgres",
    "mysql": "mysql",
    "mssql": "tsql",
    "oracle": "oracle",
}
"""Our names of the databases → sqlglot's."""

# fmt: off
_WRITE_EXPRESSIONS = (
    "Alter", "Analyze", "Attach", "Block", "Cache", "Command", "Commit", "Copy", "Create", "DDL", "DML",
    "Delete", "Describe", "Detach", "Drop", "Execute", "Grant", "Insert", "Into", "Kill", "LoadData",
    "Lock", "Merge", "NextValueFor", "Pragma", "Rollback", "Semicolon", "Set", "Show", "Summarize",
    "Transaction", "TruncateTable", "Update", "Use",
)
# fmt: on
"""Kinds of syntax that no read-only query holds."""

_DENIED_FUNCTIONS = re.compile(
    r"""load_extension|readfile|writefile|edit|fts3_tokenizer|zeroblob              # sqlite
    |pg_sleep\w*|pg_read_\w+|pg_ls_\w+|pg_stat_file|pg_file_\w+|pg_logical_\w+      # postgresql
    |pg_(terminate|cancel)_backend|pg_reload_conf|pg_rotate_logfile\w*|pg_notify
    |pg_(try_)?advisory_\w+|pg_create_\w+|pg_drop_\w+|pg_switch_\w+|pg_promote
    |lo_\w+|loread|lowrite|nextval|setval|set_config|dblink\w*
    |(query|table|schema|database|cursor)_to_xml\w*
    |sleep|benchmark|load_file|(get|release)_\w*lock\w*|\w+_pos_wait|sys_(exec|eval|get|set)   # mysql
    |xp_\w+|openrowset|opendatasource|openquery                                     # mssql
    |utl_\w+|dbms_\w+|httpuritype                                                   # oracle""",
    re.IGNORECASE | re.VERBOSE,
)
"""Functions that write, wait, or reach files and other machines."""

NOT_ONE_SELECT = "must be exactly one statement that only reads: SELECT, or WITH … SELECT"


def check_query(query: str, dialect: str | None) -> None:
    """Let ``query`` pass if it is one SELECT and calls nothing dangerous.

    Args:
        query: SQL text.
        dialect: a key of :data:`DIALECTS`; None if unknown as yet: one that accepts the query is enough then.

    Raises:
        ValueError: with a sentence.
    """
    if "\0" in query or "/*!" in query or "/*M!" in query:
        raise ValueError("must hold no NUL and no comment that MySQL executes (/*! … */)")
    names = [SQLGLOT_DIALECTS[dialect]] if dialect else ["postgres", "mysql", "sqlite"]
    problems = [problem for name in names if (problem := _query_error(query, name))]
    if len(problems) == len(names):
        raise ValueError(problems[0])


def _query_error(query: str, dialect: str) -> str | None:
    try:
        _check(query, dialect)
    except ValueError as error:
        return str(error)
    return None


def _check(query: str, dialect: str) -> None:
    from sqlglot import tokenize
    from sqlglot.errors import SqlglotError

    try:
        tokens = tokenize(query, read=dialect)
        if not tokens or tokens[0].token_type.name not in ("SELECT", "WITH", "L_PAREN"):
            raise ValueError(NOT_ONE_SELECT)
        _check_calls(tokens)
        _check_tree(_parse(query, dialect))
    except SqlglotError as error:
        raise ValueError(f"cannot be understood as {dialect} SQL{_position(error)}: correct it") from None
    except RecursionError:
        raise ValueError("is nested too deeply: simplify it") from None


def is_denied(function: str) -> bool:
    """Whether a query may not call ``function``."""
    return _DENIED_FUNCTIONS.fullmatch(function) is not None


def _check_calls(tokens: list[Any]) -> None:
    for token, following in pairwise(tokens):
        if following.token_type.name == "L_PAREN" and is_denied(token.text):
            raise ValueError(f"must not call {quoted(token.text)}: a data chef only reads tables")


def _check_tree(statements: list[Any]) -> None:
    from sqlglot import exp

    writing = tuple(getattr(exp, name) for name in _WRITE_EXPRESSIONS if hasattr(exp, name))
    real = [statement for statement in statements if statement is not None]
    if len(real) != 1 or not isinstance(real[0], exp.Query):
        raise ValueError(NOT_ONE_SELECT)
    if any(isinstance(node, writing) for node in real[0].walk()):
        raise ValueError(f"{NOT_ONE_SELECT}, without INTO or locks")


def _parse(query: str, dialect: str) -> list[Any]:
    from sqlglot import parse

    with _silenced(logging.getLogger("sqlglot")):
        return list(parse(query, read=dialect))


@contextmanager
def _silenced(logger: logging.Logger) -> Iterator[None]:
    """sqlglot logs the text of what it does not know; the caller's sentence is enough."""

    def nothing(_: logging.LogRecord) -> bool:
        return False

    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)


def _position(error: Exception) -> str:
    first = next(iter(getattr(error, "errors", None) or [{}]))
    line, column = first.get("line"), first.get("col")
    return f" (line {line}, column {column})" if line and column else ""
