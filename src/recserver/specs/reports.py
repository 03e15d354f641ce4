"""pydantic's findings in our words."""

from __future__ import annotations

from pydantic import ValidationError

from recserver.errors import FieldError


def field_errors(error: ValidationError, *within: str) -> list[FieldError]:
    """Every field that ``error`` finds fault with; ``within`` is put before each place."""
    return [
        FieldError((*within, *(str(part) for part in one["loc"])), _sentence(one["type"], one["msg"]))
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def first_problem(error: ValidationError) -> str:
    """The first fault of ``error`` as ``place: what is wrong``."""
    return in_words(field_errors(error)[0])


def in_words(problem: FieldError) -> str:
    """One fault as ``place: what is wrong``."""
    return f"{'.'.join(problem.loc)}: {problem.msg}" if problem.loc else problem.msg


def _sentence(kind: str, message: str) -> str:
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return "is missing"
    if kind == "extra_forbidden":
        return "is not known here"
    return message.removeprefix("Value error, ")
