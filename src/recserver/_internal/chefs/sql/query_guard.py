"""Checks that a query is exactly one SELECT, with a parser of the database's dialect.

In addition, every database that supports it is opened read-only.
"""

from __future__ import annotations

import logging
import re
from itertools import pairwise
from typing import Any

from recserver._internal.core.errors import quoted

SQLGLOT_DIALECTS = {
    "sqlite": "sqlite",
    "postgresql": "postgres",
    "mysql": "mysql",
    "mssql": "tsql",
    "oracle": "oracle",
}
"""Name of a dialect here → in sqlglot."""

# fmt: off
_WRITE_EXPRESSIONS = (
    "Alter", "Analyze", "Attach", "Block", "Cache", "Command", "Commit", "Copy", "Create", "DDL", "DML",
    "Delete", "Describe", "Detach", "Drop", "Execute", "Grant", "Insert", "Into", "Kill", "LoadData",
    "Lock", "Merge", "NextValueFor", "Pragma", "Rollback", "Semicolon", "Set", "Show", "Summarize",
    "Transaction", "TruncateTable", "Update", "Use",
)
# fmt: on
"""Expressions of sqlglot that do not occur in read-only queries."""

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
"""Functions that write, wait, or access files and other hosts."""

NOT_ONE_SELECT = "must be exactly one statement that only reads: SELECT, or WITH … SELECT"


def check_query(query: str, dialect: str | None) -> None:
    """Check that ``query`` is one SELECT that calls no denied function.

    Args:
        query: SQL text.
        dialect: a key of :data:`SQLGLOT_DIALECTS`; None if unknown: then one dialect must accept the query.

    Raises:
        ValueError: if not; the message follows "The query".
    """
    if "\0" in query or "/*!" in query or "/*M!" in query:
        raise ValueError("must not contain NUL characters, or comments that MySQL executes (/*! … */)")
    problems = list[ValueError]()
    for name in [SQLGLOT_DIALECTS[dialect]] if dialect else ["postgres", "mysql", "sqlite"]:
        try:
            return _check(query, name)
        except ValueError as error:
            problems.append(error)
    raise problems[0]


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
        raise ValueError(f"is not valid {dialect} SQL{_position(error)}: correct it") from None
    except RecursionError:
        raise ValueError("is nested too deeply: simplify it") from None


def is_denied(function: str) -> bool:
    """Whether queries may not call ``function``."""
    return _DENIED_FUNCTIONS.fullmatch(function) is not None


def _check_calls(tokens: list[Any]) -> None:
    for token, following in pairwise(tokens):
        if following.token_type.name == "L_PAREN" and is_denied(token.text):
            raise ValueError(f"must not call {quoted(token.text)}: a data chef only reads tables")


def _check_tree(statements: list[Any]) -> None:
    from sqlglot import exp

    writing = tuple(getattr(exp, name) for name in _WRITE_EXPRESSIONS if hasattr(exp, name))
    statements = [statement for statement in statements if statement is not None]
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise ValueError(NOT_ONE_SELECT)
    if any(isinstance(node, writing) for node in statements[0].walk()):
        raise ValueError(f"{NOT_ONE_SELECT}, without INTO or locks")


def _parse(query: str, dialect: str) -> list[Any]:
    from sqlglot import parse

    logger, discard = logging.getLogger("sqlglot"), logging.Filter("no such logger")
    logger.addFilter(discard)  # sqlglot logs the text of unknown syntax
    try:
        return list(parse(query, read=dialect))
    finally:
        logger.removeFilter(discard)


def _position(error: Exception) -> str:
    first = next(iter(getattr(error, "errors", None) or [{}]))
    line, column = first.get("line"), first.get("col")
    return f" (line {line}, column {column})" if line and column else ""
