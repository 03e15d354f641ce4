"""The next page in ``Link`` headers, as RFC 8288 writes it."""

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
    """The target of the first link to the next page, joined with ``base``; None if there is none.

    A target that is not a URL is returned unchanged: the caller reports it.
    """
    from yarl import URL

    found = next((target for text in headers for target, kinds in _links(text) if "next" in kinds), None)
    if found is None:
        return None
    try:
        return str(base.join(URL(found)))
    except ValueError:
        return found


def _links(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each link of one header: its target, and its relation types in small letters."""
    place = 0
    while place < len(text):
        if between := _SEPARATORS.match(text, place):
            place = between.end()
        if target := _TARGET.match(text, place):
            place, relations = target.end(), None
            while parameter := _PARAMETER.match(text, place):
                place = parameter.end()
                if relations is None and parameter[1].lower() == "rel":  # only the first one counts
                    relations = _unquote(parameter[2] or "").lower().split()
            yield target[1].strip(), relations or []
        place = text.find(",", place) + 1 or len(text)


def _unquote(value: str) -> str:
    return _QUOTED_PAIR.sub(r"\1", value[1:-1]) if value.startswith('"') else value
