"""Values of any type as JSON, shortened for display."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import numpy as np

from recserver._internal.training.ingest.id_encoding import is_missing

MAX_TEXT_CHARS = 200
"""Characters of a text, or of nested values, that are shown."""

MAX_BINARY_BYTES = 32
"""Bytes of binary data that are shown, two digits each."""

MAX_ITEMS = 20
MAX_DEPTH = 3

MAX_EXACT_INTEGER = 2**63
"""Larger integers are shown as text: few readers of JSON keep their digits."""


def to_json_value(value: Any) -> Any:
    """``value`` as JSON: dates as ISO 8601, decimals as numbers where nothing is lost, bytes as hex digits."""
    shown = _convert(value, 0)
    if isinstance(shown, dict | list) and len(text := json.dumps(shown, ensure_ascii=False)) > MAX_TEXT_CHARS:
        return shorten(text)
    return shown


def shorten(text: str) -> str:
    """``text`` cut to :data:`MAX_TEXT_CHARS`; lone surrogates become ``?``."""
    text = text if len(text) <= MAX_TEXT_CHARS else f"{text[: MAX_TEXT_CHARS - 1]}…"
    return text.encode("utf-8", "replace").decode()


def _convert(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping | list | tuple | set | frozenset | np.ndarray):
        return _convert_container(value, depth)
    return _convert_scalar(value.item() if isinstance(value, np.generic) else value)


def _convert_container(value: Any, depth: int) -> Any:
    if depth == MAX_DEPTH:
        return "…"
    more = ["…"] if len(value) > MAX_ITEMS else []
    if isinstance(value, Mapping):
        first = islice(value.items(), MAX_ITEMS)
        return {shorten(str(name)): _convert(item, depth + 1) for name, item in first} | {m: m for m in more}
    return [_convert(item, depth + 1) for item in islice(value, MAX_ITEMS)] + more


def _convert_scalar(value: Any) -> Any:  # noqa: PLR0911 - one line a kind of value
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return shorten(value)
    if isinstance(value, int):
        return value if abs(value) < MAX_EXACT_INTEGER else _integer_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return _convert_decimal(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        digits = bytes(value[:MAX_BINARY_BYTES]).hex()
        return digits if len(value) <= MAX_BINARY_BYTES else f"{digits}…"
    try:
        return shorten(str(value))
    except Exception:  # the value of a plug-in may raise anything
        return shorten(reprlib.repr(type(value)))


def _integer_text(value: int) -> str:
    try:
        return shorten(str(value))
    except ValueError:  # Python converts no integer of more than 4300 digits
        return "(a number of very many digits)"


def _convert_decimal(value: Decimal) -> Any:
    if value.is_nan():
        return None
    if value.is_finite() and abs(value.adjusted()) < 15:
        number = int(value) if value == value.to_integral_value() else float(value)
        if Decimal(repr(number)) == value:
            return number
    return shorten(str(value))


def rating_number(rating: np.float32) -> int | float:
    """A rating in its shortest form: 0.1, not 0.10000000149."""
    exact = float(str(rating))
    return int(exact) if exact.is_integer() and abs(exact) < 1e15 else exact


def format_time(seconds: float) -> str | float:
    """A time in UTC as text; the seconds if it is outside of the calendar."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError):
        return seconds
