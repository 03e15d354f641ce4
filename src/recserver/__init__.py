"""recserver: trains recommendation models from your data on a schedule, and serves them from memory.

Use it as a library with :class:`RecServer`, or from the command line with ``recserver serve``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recserver.core.errors import RecServerError
    from recserver.server.rec_server import RecServer
    from recserver.server.settings import Settings

__all__ = ["RecServer", "RecServerError", "Settings"]

_MODULES = {
    "RecServer": "recserver.server.rec_server",
    "RecServerError": "recserver.core.errors",
    "Settings": "recserver.server.settings",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'recserver' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)  # lazily: worker processes need no server
