"""Answers that were given before, ready to be sent again as long as the same version of their model serves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, ref

LONGEST_QUESTION = 2048
"""Characters of an address whose answer is kept."""

OVERHEAD = 400
"""Bytes that an entry takes beside its texts, about."""

Serving = Callable[[str], object | None]


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer in two halves, between which the time stands, and the version that gave it."""

    model_id: str
    version: ReferenceType[object]
    before: bytes
    after: bytes
    bytes: int


class Answers:
    """The answers to addresses: as many as there is room for, those that were asked for last."""

    def __init__(self, serving: Serving, moment: Callable[[], str], room: int) -> None:
        """
        Args:
            serving: the version of a model that serves from memory just now; each is an object of its own.
            moment: the present time, as answers tell it.
            room: bytes that the answers may take together.
        """
        self._serving, self._moment, self._room = serving, moment, room
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # least recently asked first
        self._taken = 0

    def find(self, address: str) -> bytes | None:
        """The answer to an address, if it is known and would still be the same but for the time."""
        kept = self._kept.get(address)
        if kept is None:
            return None
        if kept.version() is not self._serving(kept.model_id):
            self._drop(address)
            return None
        self._kept.move_to_end(address)
        if not kept.after:
            return kept.before
        return b"".join((kept.before, self._moment().encode(), kept.after))

    def keep(self, address: str, result: Mapping[str, Any], body: bytes, version: object | None) -> None:
        """Keep an answer, unless another version serves by now than the one that served when it was asked for.

        Args:
            result: what the answer says; ``body`` is its JSON.
            version: what served before the answer was looked for.
        """
        model_id = result["model_id"]
        if version is None or version is not self._serving(model_id) or len(address) > LONGEST_QUESTION:
            return
        before, after = _around(body, result.get("datetime"))
        size = len(body) + len(address) + OVERHEAD
        if size > self._room:
            return
        self._drop(address)
        self._kept[address] = _Kept(model_id, ref(version), before, after, size)
        self._taken += size
        while self._taken > self._room:
            self._drop(next(iter(self._kept)))

    def _drop(self, address: str) -> None:
        kept = self._kept.pop(address, None)
        self._taken -= kept.bytes if kept else 0


def _around(body: bytes, moment: str | None) -> tuple[bytes, bytes]:
    """What stands before a time and after it. No text within JSON holds a quotation mark that is not escaped."""
    if moment is None:
        return body, b""
    key = b'"datetime":"'
    before, found, after = body.partition(key + moment.encode())
    return (before + key, after) if found else (body, b"")
