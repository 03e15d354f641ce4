"""Secrets in the entries of data chefs: masking, restoring masked values, environment variables, redaction.

Secrets are ``db_config.password``, the password in a URL, query parameters and headers with names such as key,
token, secret or password, and the credentials in ``auth``. A reference to an environment variable, ``${NAME}``,
is not a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from recserver._internal.core.errors import InvalidInput, SourceFailed

MASK = "********"

Entry = Mapping[str, Any]
Replace = Callable[[str], str]

MIN_PREFIX = 6
"""Characters. Messages shorten what they quote, so a prefix of a secret is redacted too if it is this long."""

MIN_SECRET_LENGTH = 4
"""Characters. Shorter values occur in any text by chance."""

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
URL_KEYS = ("url", "connection")

_ONLY_REFERENCES = re.compile(rf"(?:{REFERENCE.pattern})+")
_SECRET_PARAMETER = re.compile(r"key|token|secret|passw|pwd|odbc_connect", re.IGNORECASE)
_SECRET_HEADER = re.compile(r"auth|cookie|key|token|secret|passw|pwd|signature|session", re.IGNORECASE)
_SECRET_KEYS: dict[str, Callable[[str], object]] = {
    "db_config": "password".__eq__,
    "auth": {"token", "key", "password"}.__contains__,
    "headers": _SECRET_HEADER.search,
}
"""Part of an entry → whether a key of it holds a secret."""

_PARAMETER = re.compile(r"([?&#])([^=&#]*)=([^&#]*)")
# A password without percent-encoding may contain @ / ? #: it ends at the last @ before the end of the host.
_HEAD = r"(?P<head>[^:/?#]*://[^:/?#@]*:)"
_REST = r"(?P<secret>[^@]*(?:@[^@/?#]*)*)(?P<tail>@[^@/?#]*(?:[/?#].*)?)"
# In http://host:8080/?mail=a@b, the part after the colon is a port; in a database URL, it is a password.
_NO_PORT = r"(?!(?:\d|\$\{\w+\})*(?:[/?#]|$))"
_USERINFO = {
    "url": re.compile(_HEAD + _NO_PORT + _REST, re.DOTALL),
    "connection": re.compile(_HEAD + _REST, re.DOTALL),
}
_HOST_PARAMETERS = frozenset({"host", "hostaddr", "port", "service", "unix_socket", "dsn", "server"})
_PORTS = {"http": "80", "https": "443", "postgresql": "5432", "postgres": "5432", "mysql": "3306"}


def mask_entry(entry: Entry) -> dict[str, Any]:
    """A copy of ``entry`` whose secrets are replaced by :data:`MASK`."""
    return _replace_secrets(entry, lambda secret: secret if is_reference(secret) else MASK)


def is_reference(secret: str) -> bool:
    """Whether a value consists of references to environment variables only."""
    return _ONLY_REFERENCES.fullmatch(secret) is not None


def mask_url(url: str) -> str:
    """``url`` whose secrets are replaced by :data:`MASK`."""
    return str(mask_entry({"url": url})["url"])


def secret_values(entry: Entry) -> list[str]:
    """All secrets of ``entry``, as written and percent-decoded, for :func:`scrub`."""
    found: set[str] = set()

    def collect(secret: str) -> str:
        found.update((secret, unquote(secret), unquote_plus(secret)))
        return secret

    _replace_secrets(entry, collect)
    return sorted(found - {"", MASK})


def scrub(text: str, secrets: Iterable[str], *, whole_words: bool = False) -> str:
    """``text`` with each of ``secrets`` replaced by :data:`MASK`; short ones are replaced as whole words only."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        if whole_words or len(secret) < MIN_SECRET_LENGTH:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
        else:
            text = text.replace(secret, MASK)
    return text


def missing_variables(entry: Entry) -> list[str]:
    """Names of the environment variables that ``entry`` refers to and that are not set."""
    return sorted(_references(entry) - os.environ.keys())


def expand_environment(entry: Entry) -> dict[str, Any]:
    """``entry`` with every ``${NAME}`` replaced by the value of that environment variable.

    Values of passwords and query parameters in URLs are percent-encoded, so variables hold plain secrets.

    Raises:
        SourceFailed: naming the first variable that is not set.
    """
    if missing := missing_variables(entry):
        raise SourceFailed(
            f"The environment variable {missing[0]} is not set: set it for the server, or write the value "
            "in its place."
        )
    encoded = {key: _encode_references(key, text) for key, text in entry.items()}
    expanded = _map_texts(encoded, lambda text: REFERENCE.sub(lambda found: os.environ[found[1]], text))
    return dict(expanded)


def restore_masked(new: Entry, stored: Entry | None) -> dict[str, Any]:
    """``new`` with every masked secret replaced by the secret at the same location of ``stored``.

    Raises:
        InvalidInput: if ``stored`` has no such secret, or ``new`` would send it to another host.
    """
    restored = dict(new)
    old = stored or {}
    for part in _SECRET_KEYS:
        if isinstance(given := new.get(part), Mapping) and MASK in given.values():
            restored[part] = _restore_part(part, given, new, old)
    for key in URL_KEYS:
        if isinstance(text := new.get(key), str):
            restored[key] = _restore_url(key, text, old.get(key))
    return restored


def _restore_part(part: str, given: Entry, new: Entry, old: Entry) -> dict[str, Any]:
    known = old.get(part)
    known = known if isinstance(known, Mapping) else {}
    if part == "db_config":
        host, stored_host = _config_host(given), _config_host(known)
    else:
        host, stored_host = (_url_host("url", str(one.get("url", ""))) for one in (new, old))
    for name in (name for name, value in given.items() if value == MASK):
        _require_same_host((part, str(name)), host, stored_host, known.get(name))
    return {name: known[name] if value == MASK else value for name, value in given.items()}


def _restore_url(key: str, text: str, stored: object) -> str:
    stored_url = stored if isinstance(stored, str) else ""
    known: dict[str, str] = {}
    _replace_url_secrets(key, stored_url, lambda location, secret: known.setdefault(location, secret))  # noqa: PLW0108 - typed

    def restore(location: str, secret: str) -> str:
        if secret != MASK:
            return secret
        _require_same_host((key,), _url_host(key, text), _url_host(key, stored_url), known.get(location))
        return known[location]

    return _replace_url_secrets(key, text, restore)


def _require_same_host(loc: tuple[str, ...], host: object, stored_host: object, stored_secret: object) -> None:
    if not stored_secret or stored_secret == MASK:
        problem = f"is masked ({MASK}), but no secret is stored for it: enter the secret itself"
    elif host != stored_host:
        problem = "the secret is stored for its own host only: enter it again together with the new host"
    else:
        return
    raise InvalidInput.of(loc, problem)


def _config_host(config: Entry) -> object:
    dialect = str(config.get("type", "")).lower()
    return dialect, str(config.get("host", "")).lower(), str(config.get("port") or _PORTS.get(dialect, ""))


def _url_host(key: str, text: str) -> object:
    """The host that ``text`` connects to: its scheme, host and port, and parameters that override them."""
    userinfo = _USERINFO[key].fullmatch(text)
    scheme, _, rest = text.partition("://")
    after_userinfo = userinfo["tail"] if userinfo else rest
    authority = re.split(r"[/?#]", after_userinfo, maxsplit=1)[0].rpartition("@")[2].lower()
    dialect = scheme.lower().partition("+")[0]
    host, colon, port = authority.rpartition(":")
    if not colon or not port.isdigit():
        host, port = authority.removesuffix(":"), _PORTS.get(dialect, "")
    parameters = ((unquote_plus(name).lower(), value) for _, name, value in _PARAMETER.findall(text))
    return dialect, host, port, sorted(pair for pair in parameters if pair[0] in _HOST_PARAMETERS)


def _replace_secrets(entry: Entry, replace: Replace) -> dict[str, Any]:
    """A copy of ``entry`` with ``replace`` applied to each of its secrets."""
    changed = dict(entry)
    for key in URL_KEYS:
        if isinstance(text := entry.get(key), str):
            changed[key] = _replace_url_secrets(key, text, lambda _, secret: replace(secret))
    for part, is_secret in _SECRET_KEYS.items():
        values = entry.get(part)
        if isinstance(values, str) and values:
            changed[part] = replace(values)
        elif isinstance(values, Mapping):
            changed[part] = {
                name: replace(str(value)) if value not in (None, "") and is_secret(str(name)) else value
                for name, value in values.items()
            }
    return changed


def _replace_url_secrets(key: str, text: str, replace: Callable[[str, str], str]) -> str:
    """``text`` with ``replace(location, secret)`` applied to its password and to each secret parameter."""
    head, tail = "", text
    if (userinfo := _USERINFO[key].fullmatch(text)) and userinfo["secret"]:
        head, tail = f"{userinfo['head']}{replace('://', userinfo['secret'])}", userinfo["tail"]

    def replace_parameter(found: re.Match[str]) -> str:
        mark, name, value = found.groups()
        if not value or not _SECRET_PARAMETER.search(unquote_plus(name)):
            return found[0]
        return f"{mark}{name}={replace(name, value)}"

    return head + _PARAMETER.sub(replace_parameter, tail)


def _encode_references(key: str, value: object) -> object:
    """A URL whose references in passwords and parameters are replaced by percent-encoded values."""
    if key not in URL_KEYS or not isinstance(value, str):
        return value

    def encode(text: str) -> str:
        return REFERENCE.sub(lambda found: quote(os.environ[found[1]], safe=""), text)

    text = _replace_url_secrets(
        key, value, lambda location, secret: encode(secret) if location == "://" else secret
    )
    return _PARAMETER.sub(lambda found: f"{found[1]}{found[2]}={encode(found[3])}", text)


def _map_texts(value: Any, change: Replace) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map_texts(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_map_texts(part, change) for part in value]
    return value


def redact_variables(text: str, entry: Entry) -> str:
    """``text`` with the values of the environment variables of ``entry`` replaced by their references."""
    return redact(text, variable_redactions(entry))


def variable_redactions(entry: Entry) -> dict[str, str]:
    """The values of the environment variables of ``entry``, in every encoding → ``${NAME}``."""
    found: dict[str, str] = {}
    for name in sorted(_references(entry)):
        value = os.environ.get(name, "")
        if len(value) >= MIN_SECRET_LENGTH:
            encodings = value, quote(value), quote(value, safe=""), repr(value)[1:-1]
            found |= dict.fromkeys(encodings, f"${{{name}}}")
    return found


def redact(text: str, replacements: Mapping[str, str]) -> str:
    """``text`` with each secret, and each prefix of one, replaced; of several, the one with the longest prefix.

    Args:
        replacements: secret → its replacement.
    """
    if not replacements:
        return text
    prefixes = re.compile("|".join(re.escape(secret[:MIN_PREFIX]) for secret in replacements))
    parts, end = list[str](), 0
    while found := prefixes.search(text, end):
        rest = text[found.start() :]
        length, secret = max((len(os.path.commonprefix((one, rest))), one) for one in replacements)  # noqa: RUF071
        parts += text[end : found.start()], replacements[secret]
        end = found.start() + length
    return "".join(parts) + text[end:]


def _references(value: object) -> set[str]:
    """Names of the environment variables that a value refers to."""
    if isinstance(value, str):
        return set(REFERENCE.findall(value))
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return set().union(*map(_references, parts))
