"""Messages for pydantic's validation errors."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from recserver._internal.core.errors import FieldError

MAX_ERRORS = 20
"""Errors that are listed: a response must not be many times as long as its request."""

MAX_NAME_LENGTH = 100
"""Characters of a field's name in a message."""

_MESSAGES = {
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
_MESSAGE_BY_TYPE = {kind: sentence for sentence, kinds in _MESSAGES.items() for kind in kinds}


def field_errors(error: ValidationError, *within: str) -> list[FieldError]:
    """The invalid fields of ``error``; ``within`` is prepended to each path."""
    details = error.errors(include_url=False, include_input=False)
    listed = [
        FieldError((*within, *(_short_name(part) for part in detail["loc"])), _message(detail))
        for detail in details[:MAX_ERRORS]
    ]
    others = len(details) - len(listed)
    return [*listed, FieldError(within, f"and {others} more errors")] if others else listed


def first_error(error: ValidationError) -> str:
    """The first problem of ``error`` as ``path: problem``."""
    return str(field_errors(error)[0])


def _short_name(part: int | str) -> str:
    text = str(part)
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[: MAX_NAME_LENGTH - 1]}…"


def _message(detail: ErrorDetails) -> str:
    """The problem of a field and what is allowed. Our own validators provide their messages."""
    limits = detail.get("ctx", {})
    if limits.get("min_length") == 1:
        return "must not be empty"
    sentence = _MESSAGE_BY_TYPE.get(detail["type"])
    return detail["msg"].removeprefix("Value error, ") if sentence is None else sentence.format_map(limits)
