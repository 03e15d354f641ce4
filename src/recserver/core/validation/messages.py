"""pydantic's findings in our words."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from recserver.core.errors import FieldError

MOST_FAULTS = 20
"""Faults that are named; an answer must not be many times as long as what was asked."""

LONGEST_NAME = 100
"""Characters of a field's name that are shown."""

_SENTENCES = {
    "is missing": ("missing", "missing_argument", "missing_keyword_only_argument"),
    "is not known here": ("extra_forbidden", "unexpected_keyword_argument"),
    "must be text": ("string_type", "string_unicode"),
    "must be {expected}": ("enum", "literal_error"),
    "must be at least {min_length} characters long": ("string_too_short",),
    "must be at most {max_length} characters long": ("string_too_long",),
    "must match {pattern}": ("string_pattern_mismatch",),
    "must be a whole number": ("int_type", "int_parsing", "int_from_float", "int_parsing_size"),
    "must be a number": ("float_type", "float_parsing"),
    "must be a finite number": ("finite_number",),
    "must be true or false": ("bool_type", "bool_parsing"),
    "must be at least {ge}": ("greater_than_equal",),
    "must be more than {gt}": ("greater_than",),
    "must be at most {le}": ("less_than_equal",),
    "must be less than {lt}": ("less_than",),
    "must be an object": ("dict_type", "model_type", "model_attributes_type", "mapping_type"),
    "must be a list": ("list_type", "tuple_type", "set_type"),
}
_BY_KIND = {kind: sentence for sentence, kinds in _SENTENCES.items() for kind in kinds}


def field_errors(error: ValidationError, *within: str) -> list[FieldError]:
    """The fields that ``error`` finds fault with; ``within`` is put before each place."""
    faults = error.errors(include_url=False, include_input=False)
    named = [
        FieldError((*within, *(_name(part) for part in one["loc"])), _sentence(one))
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


def _sentence(fault: ErrorDetails) -> str:
    """What is wrong with a field, and what is allowed; validators of ours have said it themselves."""
    limits = fault.get("ctx", {})
    if limits.get("min_length") == 1:
        return "must not be empty"
    sentence = _BY_KIND.get(fault["type"])
    return fault["msg"].removeprefix("Value error, ") if sentence is None else sentence.format_map(limits)
