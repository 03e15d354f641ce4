"""The messages of worker processes: one a line of JSON, an object with the kind of message as its only key.

The server sends jobs: ``training``, ``preview``, ``export`` or ``candidate``. A worker answers with any number of
``progress`` messages and one of ``result``, ``failed`` (an error with a sentence) and ``crashed`` (any other
exception).
"""

from __future__ import annotations

import json
from typing import Any


def encode(kind: str, content: Any) -> str:
    """One message as a line."""
    return json.dumps({kind: content}) + "\n"


def decode(line: str | bytes) -> tuple[str, Any]:
    """The kind and the content of a message."""
    kind, content = next(iter(json.loads(line).items()))
    return kind, content
