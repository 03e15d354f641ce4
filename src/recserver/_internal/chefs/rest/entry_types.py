"""Types of values in the entry of a REST chef, with their validators."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from recserver._internal.core.errors import quoted
from recserver._internal.core.validation.values import unicode_text, whole_number_between

MAX_CONCURRENT_PAGES = 16
MAX_SELECTOR_DEPTH = 8

RESERVED_HEADERS = frozenset(
    {
        "accept-encoding", "connection", "content-length", "content-type", "expect", "host", "keep-alive", "te",
        "trailer", "transfer-encoding", "upgrade", "if-none-match", "if-modified-since", "range",
    }
)  # fmt: skip
"""Headers that only the HTTP client sets."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


def require_text(value: object) -> str:
    """``value`` if it is text. YAML reads unquoted numbers, booleans and dates as other types.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, str):
        return unicode_text(value)
    raise ValueError("must be text" if isinstance(value, dict | list) else "must be text: put it in quotes")


def check_header_name(value: str) -> str:
    """``value`` if a data chef may set the header with that name.

    Raises:
        ValueError: if it is not a header name, or is reserved.
    """
    if not _TOKEN.fullmatch(value) or value.lower() in RESERVED_HEADERS:
        raise ValueError(f"{quoted(value)} is not a header that a data chef can set")
    return value


def check_type_key(*types: str) -> Callable[[object], object]:
    """A validator for objects whose ``type`` is one of ``types``. Their other keys are validated later."""
    allowed = f"{', '.join(types[:-1])} or {types[-1]}"

    def check(value: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError(f"must be an object with a type, which is {allowed}")
        if value.get("type") not in types:
            raise ValueError(f"its type must be {allowed}")
        return value

    return check


def _check_length(min_length: int, max_length: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not min_length <= len(value) <= max_length:
            raise ValueError(
                f"must have {f'{min_length} to' if min_length else 'at most'} {max_length} characters"
            )
        return value

    return check


def _check_parameter(value: str) -> str:
    if any(ord(char) < 32 for char in value):
        raise ValueError("must not contain control characters")
    return value


def _check_header_value(value: str) -> str:
    if any(char in "\r\n\0" for char in value):
        raise ValueError("must not contain line breaks")
    return value


def _check_path(value: str) -> str:
    keys = value.split(".")
    if not all(keys) or len(keys) > MAX_SELECTOR_DEPTH:
        raise ValueError("must be names separated by dots, such as data.items")
    return value


StrictText = Annotated[str, BeforeValidator(require_text)]
Parameter = Annotated[StrictText, AfterValidator(_check_length(1, 100)), AfterValidator(_check_parameter)]
HeaderName = Annotated[StrictText, AfterValidator(check_header_name)]
HeaderValue = Annotated[StrictText, AfterValidator(_check_length(0, 8000)), AfterValidator(_check_header_value)]
SelectorPath = Annotated[StrictText, AfterValidator(_check_length(1, 200)), AfterValidator(_check_path)]
FirstPage = Annotated[int, BeforeValidator(whole_number_between(0, 1_000_000))]
Concurrency = Annotated[int, BeforeValidator(whole_number_between(1, MAX_CONCURRENT_PAGES))]


class EntryPart(BaseModel):
    """Base of the objects within an entry."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def value_at_path(document: Any, path: str, default: Any = None) -> Any:
    """The value at a dotted path of keys in nested objects.

    If a key is missing, ``default``; but None below a null or empty object, which sources return on the last page.
    """
    for key in path.split("."):
        if document is None or document == {}:
            return None
        document = document.get(key, default) if isinstance(document, Mapping) else default
    return document
