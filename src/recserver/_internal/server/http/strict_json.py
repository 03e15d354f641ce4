"""JSON, read strictly."""

from __future__ import annotations

import json
from typing import Any

from recserver._internal.core.errors import MalformedJson
from recserver._internal.core.validation.json_depth import levels

MAX_DEPTH = 64
"""Levels that a JSON body may be nested."""

MAX_DIGITS = 400
"""Digits of an integer that are read exactly; beyond, it is as good as infinite."""


def parse_json(content: bytes) -> Any:
    """JSON, read strictly: no key twice, no NaN, no NUL, no lone surrogate, at most 64 levels.

    Raises:
        MalformedJson: with what is wrong.
    """
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_reject_constant,
            parse_int=_parse_int,
        )
        _check_document(value)
    except UnicodeError:
        raise MalformedJson("The body is not UTF-8 text: send JSON in UTF-8.") from None
    except RecursionError:
        raise MalformedJson(f"The body is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise MalformedJson(f"The body is not valid JSON: {error}.") from None
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key occurs twice")
    return content


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


def _check_document(document: Any) -> None:
    """Refuse what the parser accepts: NUL, lone surrogates, unlimited nesting."""
    for depth, level in enumerate(levels(document)):
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        texts = [value for value in level if isinstance(value, str)]
        if any("\0" in text for text in texts):
            raise ValueError("a text holds a NUL character")
        "".join(texts).encode()  # a lone surrogate has no UTF-8 form
