"""pydantic's findings in our words."""

from __future__ import annotations

from pydantic import ValidationError

from recserver.errors import FieldError

MOST_FAULTS = 20
"""Faults that are named; an answer must not be many times as long as what was asked."""

LONGEST_NAME = 100
"""Characters of a field's name that are shown."""


def field_errors(error: ValidationError, *within: str) -> list[FieldError]:
    """The fields that ``error`` finds fault with; ``within`` is put before each place."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    named = [
        FieldError((*within, *(_name(part) for part in one["loc"])), _sentence(one["type"], one["msg"]))
        for one in faults[:MOST_FAULTS]
    ]
    further = len(faults) - len(named)
    return [*named, FieldError(within, f"and {further} further faults")] if further else named


def first_problem(error: ValidationError) -> str:
    """The first fault of ``error`` as ``place: what is wrong``."""
    return in_words(field_errors(error)[0])


def in_words(problem: FieldError) -> str:
    """One fault as ``place: what is wrong``."""
    return f"{'.'.join(problem.loc)}: {problem.msg}" if problem.loc else problem.msg


def _name(part: int | str) -> str:
    text = str(part)
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def _sentence(kind: str, message: str) -> str:
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return "is missing"
    if kind == "extra_forbidden":
        return "is not known here"
    return message.removeprefix("Value error, ")
