"""Answers that were given before, ready to be sent again as long as the same version of their model serves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from weakref import ReferenceType, ref

MAX_ADDRESS_LENGTH = 2048
"""Characters of an address whose answer is kept."""

ENTRY_OVERHEAD = 400
"""Bytes that an entry takes beside its texts, about."""

CurrentVersion = Callable[[str], object | None]


@dataclass(frozen=True, slots=True)
class _Entry:
    """An answer, and the version that gave it."""

    model_id: str
    version: ReferenceType[object]
    body: bytes
    size: int


class ResponseCache:
    """The answers to addresses: as many as there is room for, those that were asked for last."""

    def __init__(self, current_version: CurrentVersion, max_bytes: int) -> None:
        """
        Args:
            serving: the version of a model that serves from memory just now; each is an object of its own.
            room: bytes that the answers may take together.
        """
        self._current_version, self._max_bytes = current_version, max_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently asked first
        self._used_bytes = 0

    def get(self, address: str) -> bytes | None:
        """The answer to an address, if it is known and would be the same now but for its time."""
        kept = self._entries.get(address)
        if kept is None:
            return None
        version = kept.version()
        if version is None or version is not self._current_version(kept.model_id):
            self._drop(address)
            return None
        self._entries.move_to_end(address)
        return kept.body

    def put(self, address: str, model_id: str, body: bytes, version: object) -> None:
        """Keep an answer, unless another version serves by now than the one that served when it was asked for.

        Args:
            version: what served before the answer was looked for.
        """
        size = len(body) + len(address) + ENTRY_OVERHEAD
        if (
            version is not self._current_version(model_id)
            or len(address) > MAX_ADDRESS_LENGTH
            or size > self._max_bytes
        ):
            return
        self._drop(address)
        self._entries[address] = _Entry(model_id, ref(version), body, size)
        self._used_bytes += size
        while self._used_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, address: str) -> None:
        kept = self._entries.pop(address, None)
        self._used_bytes -= kept.size if kept else 0
