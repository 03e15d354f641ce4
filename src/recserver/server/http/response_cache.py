"""Answers that were given before, ready to be sent again as long as the same version of their model serves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from weakref import ReferenceType, ref

LONGEST_QUESTION = 2048
"""Characters of an address whose answer is kept."""

OVERHEAD = 400
"""Bytes that an entry takes beside its texts, about."""

Serving = Callable[[str], object | None]


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer, and the version that gave it."""

    model_id: str
    version: ReferenceType[object]
    body: bytes
    taken: int


class Answers:
    """The answers to addresses: as many as there is room for, those that were asked for last."""

    def __init__(self, serving: Serving, room: int) -> None:
        """
        Args:
            serving: the version of a model that serves from memory just now; each is an object of its own.
            room: bytes that the answers may take together.
        """
        self._serving, self._room = serving, room
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # least recently asked first
        self._taken = 0

    def find(self, address: str) -> bytes | None:
        """The answer to an address, if it is known and would be the same now but for its time."""
        kept = self._kept.get(address)
        if kept is None:
            return None
        version = kept.version()
        if version is None or version is not self._serving(kept.model_id):
            self._drop(address)
            return None
        self._kept.move_to_end(address)
        return kept.body

    def keep(self, address: str, model_id: str, body: bytes, version: object) -> None:
        """Keep an answer, unless another version serves by now than the one that served when it was asked for.

        Args:
            version: what served before the answer was looked for.
        """
        size = len(body) + len(address) + OVERHEAD
        if version is not self._serving(model_id) or len(address) > LONGEST_QUESTION or size > self._room:
            return
        self._drop(address)
        self._kept[address] = _Kept(model_id, ref(version), body, size)
        self._taken += size
        while self._taken > self._room:
            self._drop(next(iter(self._kept)))

    def _drop(self, address: str) -> None:
        kept = self._kept.pop(address, None)
        self._taken -= kept.taken if kept else 0
