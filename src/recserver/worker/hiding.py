"""A data chef's secrets in what its source says: sources repeat what they were asked with."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from recserver.specs.secrets import (
    MASK,
    REFERENCE,
    TELLING,
    expand_environment,
    hide_variables,
    missing_variables,
    scrub,
    secret_values,
    without,
)

SHORTEST_SECRET = 4
"""Characters. A shorter one stands by chance in any text."""

LONGEST_SEARCHED = 10_000
"""Characters of a text that are looked through; no more of it is shown."""


class Hiding:
    """Takes out what an entry holds as secret, written out or as an environment variable."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self._entry = entry
        names = set(REFERENCE.findall(json.dumps(entry, default=str)))
        variables = {os.environ.get(name, "") for name in names}
        known = {*secret_values(entry), *variables, *(quote(one, safe="") for one in variables), _basic(entry)}
        self._secrets = sorted((one for one in known if len(one) >= SHORTEST_SECRET), key=len, reverse=True)
        self._words = re.compile("|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in self._secrets))

    def in_text(self, text: str) -> str:
        """A text of the source without them."""
        return scrub(text[:LONGEST_SEARCHED], self._secrets) if self._secrets else text

    def in_name(self, name: str) -> str:
        """A name, or a sentence made of names. Only whole words are secrets there: ``user_id`` stays as it is."""
        return self._words.sub(MASK, name) if self._secrets else name

    def in_sentence(self, text: str) -> str:
        """A text that may have been shortened already, so that only the beginning of a secret stands there."""
        text = hide_variables(self.in_text(text), self._entry)
        for secret in self._secrets:
            if len(secret) > TELLING:
                text = without(text, secret, MASK)
        return text

    def in_value(self, value: Any) -> Any:
        """What is left of a value of any kind."""
        if isinstance(value, str):
            return self.in_text(value)
        if isinstance(value, dict):
            return {self.in_name(str(name)): self.in_value(one) for name, one in value.items()}
        return [self.in_value(one) for one in value] if isinstance(value, list | tuple) else value


def _basic(entry: Mapping[str, Any]) -> str:
    """What basic credentials are sent as; "" if there are none."""
    auth = entry.get("auth")
    if not isinstance(auth, Mapping) or missing_variables(entry):
        return ""
    auth = expand_environment(entry)["auth"]
    return b64encode(f"{auth.get('username', '')}:{auth.get('password', '')}".encode()).decode()
