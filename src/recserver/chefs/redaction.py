"""A data chef's secrets in what its source says: sources repeat what they were asked with."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from recserver.chefs.secrets import (
    MASK,
    MIN_SECRET_LENGTH,
    expand_environment,
    is_reference,
    missing_variables,
    redact,
    scrub,
    secret_values,
    variable_redactions,
)

MAX_SEARCHED_CHARS = 10_000
"""Characters of a text that are looked through; no more of it is shown."""


class Redactor:
    """Takes out what an entry holds as secret, written out or as an environment variable."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        expanded = {} if missing_variables(entry) else expand_environment(entry)
        found = {*secret_values(entry), *secret_values(expanded), _basic_credentials(expanded)}
        masked = (one for one in found if len(one) >= MIN_SECRET_LENGTH and not is_reference(one))
        self._replacements = dict.fromkeys(masked, MASK) | variable_redactions(entry)
        """The secrets, and what is told in the place of each."""
        self._secrets = sorted(self._replacements, key=len, reverse=True)
        self._word_pattern = re.compile("|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in self._secrets))

    def redact_text(self, text: str) -> str:
        """A text of the source without them."""
        return scrub(text[:MAX_SEARCHED_CHARS], self._secrets) if self._secrets else text

    def redact_name(self, name: str) -> str:
        """A name, or a sentence made of names. Only whole words are secrets there: ``user_id`` stays as it is."""
        return self._word_pattern.sub(MASK, name) if self._secrets else name

    def redact_message(self, text: str) -> str:
        """A text that may have been shortened already, so that only the beginning of a secret stands there.

        What came from a variable is told by its name: then people see what of their entry is meant.
        """
        return redact(text[:MAX_SEARCHED_CHARS], self._replacements)

    def redact_value(self, value: Any) -> Any:
        """What is left of a value of any kind."""
        if isinstance(value, str):
            return self.redact_text(value)
        if isinstance(value, dict):
            return {self.redact_name(str(name)): self.redact_value(one) for name, one in value.items()}
        return [self.redact_value(one) for one in value] if isinstance(value, list | tuple) else value


def _basic_credentials(expanded: Mapping[str, Any]) -> str:
    """What basic credentials are sent as; "" if there are none."""
    auth = expanded.get("auth")
    if not isinstance(auth, Mapping):
        return ""
    return b64encode(f"{auth.get('username', '')}:{auth.get('password', '')}".encode()).decode()
