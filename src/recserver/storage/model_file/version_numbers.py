"""Numbers of versions: which there are, and which comes next."""

from __future__ import annotations

from typing import TypeGuard

MAX_VERSION = 2**53 - 1
"""Larger whole numbers are not exact in the JSON of others."""

_MAX_TRUSTED_VERSION = 2**52
"""Nobody trains that often: a file that claims so is not counted on from, and there always is a next number."""


def is_version(number: object) -> TypeGuard[int]:
    """Whether ``number`` can be that of a version."""
    return isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= MAX_VERSION


def next_version(*numbers: int) -> int:
    """The number of the version that follows those."""
    return max((one for one in numbers if one < _MAX_TRUSTED_VERSION), default=0) + 1
