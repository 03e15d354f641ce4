"""Version numbers: which are valid, and which comes next."""

from __future__ import annotations

from typing import TypeGuard

MAX_VERSION = 2**53 - 1
"""Larger integers are not exact in the JSON of other languages."""

_MAX_TRUSTED_VERSION = 2**52
"""A file with a larger number is not counted on from, so that there always is a next number."""


def is_version(number: object) -> TypeGuard[int]:
    """Whether ``number`` is a valid version number."""
    return isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= MAX_VERSION


def next_version(*numbers: int) -> int:
    """The number of the version after those."""
    return max((one for one in numbers if one < _MAX_TRUSTED_VERSION), default=0) + 1
