"""Cached responses, each valid as long as the same version of its model serves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from weakref import ReferenceType, ref

MAX_URL_LENGTH = 2048
"""Maximum characters of a cached URL."""

ENTRY_OVERHEAD = 400
"""Approximate bytes of an entry in addition to its URL and body."""

CurrentVersion = Callable[[str], object | None]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A response, and the version it was computed from."""

    model_id: str
    version: ReferenceType[object]
    body: bytes
    size: int


class ResponseCache:
    """Responses by URL. The least recently requested ones are evicted."""

    def __init__(self, current_version: CurrentVersion, max_bytes: int) -> None:
        """
        Args:
            current_version: returns the serving version of a model, an object of its own; None if none is loaded.
            max_bytes: maximum bytes of all responses; 0 disables the cache.
        """
        self._current_version, self._max_bytes = current_version, max_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently requested first
        self._used_bytes = 0

    def get(self, url: str) -> bytes | None:
        """The response to a URL, in which only ``datetime`` may be out of date; None if there is none."""
        entry = self._entries.get(url)
        if entry is None:
            return None
        version = entry.version()
        if version is None or version is not self._current_version(entry.model_id):
            self._drop(url)
            return None
        self._entries.move_to_end(url)
        return entry.body

    def put(self, url: str, model_id: str, body: bytes, version: object) -> None:
        """Store a response, unless another version serves than the one it was computed from.

        Args:
            version: the version that served before the response was computed.
        """
        size = len(body) + len(url) + ENTRY_OVERHEAD
        if version is not self._current_version(model_id) or len(url) > MAX_URL_LENGTH or size > self._max_bytes:
            return
        self._drop(url)
        self._entries[url] = _Entry(model_id, ref(version), body, size)
        self._used_bytes += size
        while self._used_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, url: str) -> None:
        entry = self._entries.pop(url, None)
        self._used_bytes -= entry.size if entry else 0
