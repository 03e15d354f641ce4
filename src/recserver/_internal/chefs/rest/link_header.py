"""Parses the link to the next page in ``Link`` headers, as defined by RFC 8288."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yarl import URL

_SEPARATORS = re.compile(r"[\s,]*")
_TARGET = re.compile(r"<([^<>]*)>")
_PARAMETER = re.compile(r'\s*;\s*([^\s;,="]*)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*))?')
_QUOTED_PAIR = re.compile(r"\\(.)")


def next_link(headers: Iterable[str], base: URL) -> str | None:
    """The target of the first link with the relation ``next``, joined with ``base``; None if there is none.

    A target that is not a URL is returned unchanged: the caller reports it.
    """
    from yarl import URL

    target = next((target for text in headers for target, relations in _links(text) if "next" in relations), None)
    if target is None:
        return None
    try:
        return str(base.join(URL(target)))
    except ValueError:
        return target


def _links(text: str) -> Iterator[tuple[str, list[str]]]:
    """Target and relation types, in lower case, of each link of a header."""
    position = 0
    while position < len(text):
        if separators := _SEPARATORS.match(text, position):
            position = separators.end()
        if target := _TARGET.match(text, position):
            position, relations = target.end(), None
            while parameter := _PARAMETER.match(text, position):
                position = parameter.end()
                if relations is None and parameter[1].lower() == "rel":  # any further one must be ignored
                    relations = _unquote(parameter[2] or "").lower().split()
            yield target[1].strip(), relations or []
        position = text.find(",", position) + 1 or len(text)


def _unquote(value: str) -> str:
    return _QUOTED_PAIR.sub(r"\1", value[1:-1]) if value.startswith('"') else value
