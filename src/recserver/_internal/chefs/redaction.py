"""Redaction of an entry's secrets in text that comes from its source, such as error messages and rows."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from recserver._internal.chefs.secrets import (
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
"""Characters of a text that are searched; the rest is cut off."""


class Redactor:
    """Replaces the secrets of an entry, and the values of the environment variables that it refers to."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        expanded = {} if missing_variables(entry) else expand_environment(entry)
        found = {*secret_values(entry), *secret_values(expanded), _basic_credentials(expanded)}
        masked = (one for one in found if len(one) >= MIN_SECRET_LENGTH and not is_reference(one))
        self._replacements = dict.fromkeys(masked, MASK) | variable_redactions(entry)
        """Secret → its replacement."""

    def redact_text(self, text: str) -> str:
        """A text of the source without secrets."""
        return scrub(text[:MAX_SEARCHED_CHARS], self._replacements) if self._replacements else text

    def redact_name(self, name: str) -> str:
        """A name, or a sentence with names, without secrets. Only whole words match, so ``user_id`` is kept."""
        return scrub(name, self._replacements, whole_words=True)

    def redact_message(self, text: str) -> str:
        """A message without secrets, which may be shortened to a prefix.

        Values of environment variables are replaced by their references, so that users recognise their entry.
        """
        return redact(text[:MAX_SEARCHED_CHARS], self._replacements)

    def redact_value(self, value: Any) -> Any:
        """A value of a row without secrets."""
        if isinstance(value, str):
            return self.redact_text(value)
        if isinstance(value, dict):
            return {self.redact_name(str(name)): self.redact_value(one) for name, one in value.items()}
        return [self.redact_value(one) for one in value] if isinstance(value, list | tuple) else value


def _basic_credentials(expanded: Mapping[str, Any]) -> str:
    """The encoded credentials of HTTP basic authentication; "" if there are none."""
    auth = expanded.get("auth")
    if not isinstance(auth, Mapping):
        return ""
    return b64encode(f"{auth.get('username', '')}:{auth.get('password', '')}".encode()).decode()
