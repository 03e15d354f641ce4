"""Secrets in a data chef's entry: shown masked, kept when a mask comes back, taken from the environment.

A secret is ``db_config.password``, the password in a URL's userinfo, the value of a query parameter named
like key, token, secret or password, what ``auth`` holds, or a header named so. ``${NAME}`` stands for an
environment variable and is no secret itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from recserver.core.errors import InvalidInput, SourceFailed

MASK = "********"

Entry = Mapping[str, Any]
Replace = Callable[[str], str]

MIN_PREFIX = 6
"""Characters of a variable's value that are not told, not even as the beginning of it."""

MIN_SECRET_LENGTH = 4
"""Characters of a variable's value. A shorter one stands by chance in any sentence."""

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
URL_KEYS = ("url", "connection")

SECRET_AUTH_KEYS = ("token", "key", "password")
"""Keys of an entry's ``auth`` that hold secrets."""

_ONLY_REFERENCES = re.compile(rf"(?:{REFERENCE.pattern})+")
_SECRET_NAME = re.compile(r"key|token|secret|passw|pwd|odbc_connect", re.IGNORECASE)
_SECRET_HEADER = re.compile(r"auth|cookie|key|token|secret|passw|pwd|signature|session", re.IGNORECASE)
_PARAMETER = re.compile(r"([?&#])([^=&#]*)=([^&#]*)")
# A password written without percent-encoding may hold @ / ? #: it ends at the last @ before the host's end.
_HEAD = r"(?P<head>[^:/?#]*://[^:/?#@]*:)"
_REST = r"(?P<secret>[^@]*(?:@[^@/?#]*)*)(?P<tail>@[^@/?#]*(?:[/?#].*)?)"
# In http://host:8080/?mail=a@b the part after the colon is a port; a database URL has a password there.
_NO_PORT = r"(?!(?:\d|\$\{\w+\})*(?:[/?#]|$))"
_USERINFO = {
    "url": re.compile(_HEAD + _NO_PORT + _REST, re.DOTALL),
    "connection": re.compile(_HEAD + _REST, re.DOTALL),
}
_HOST_PARAMETERS = frozenset({"host", "hostaddr", "port", "service", "unix_socket", "dsn", "server"})
_PORTS = {"http": "80", "https": "443", "postgresql": "5432", "postgres": "5432", "mysql": "3306"}


def mask_entry(entry: Entry) -> dict[str, Any]:
    """``entry`` as it may be shown: every secret is :data:`MASK`, everything else as it is."""
    return _with_secrets(entry, lambda secret: secret if is_reference(secret) else MASK)


def is_reference(secret: str) -> bool:
    """Whether nothing of a secret is written out: it is ``${NAME}``, once or several times."""
    return _ONLY_REFERENCES.fullmatch(secret) is not None


def mask_url(url: str) -> str:
    """One URL as it may be shown."""
    return str(mask_entry({"url": url})["url"])


def secret_values(entry: Entry) -> list[str]:
    """Every secret of ``entry``, as written and percent-decoded: what :func:`scrub` must remove."""
    found: set[str] = set()

    def note(secret: str) -> str:
        found.update((secret, unquote(secret), unquote_plus(secret)))
        return secret

    _with_secrets(entry, note)
    return sorted(found - {"", MASK}, key=lambda secret: (-len(secret), secret))


def scrub(text: str, secrets: Iterable[str]) -> str:
    """``text`` without any of ``secrets``, longest first. Those below 4 characters go only as whole words."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, MASK)
        else:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    return text


def missing_variables(entry: Entry) -> list[str]:
    """Names of the environment variables that ``entry`` refers to and that are not set."""
    return sorted(_references(entry) - os.environ.keys())


def expand_environment(entry: Entry) -> dict[str, Any]:
    """``entry`` with every ``${NAME}`` replaced by that environment variable.

    Where it stands for a URL's password or in its query, the value is percent-encoded on the way: the
    variable holds the plain secret.

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
    """``new`` with every masked secret replaced by the one that ``stored`` holds in the same place.

    Raises:
        InvalidInput: if ``stored`` has no such secret, or ``new`` would send it to another host.
    """
    restored = dict(new)
    old = stored or {}
    config, old_config = new.get("db_config"), old.get("db_config")
    if isinstance(config, Mapping) and config.get("password") == MASK:
        known = old_config if isinstance(old_config, Mapping) else {}
        hosts = _config_host(config), _config_host(known)
        _require_same_host(("db_config", "password"), *hosts, known.get("password"))
        restored["db_config"] = {**config, "password": known["password"]}
    for key in URL_KEYS:
        if isinstance(text := new.get(key), str):
            restored[key] = _restore_url(key, text, old.get(key))
    for part in ("auth", "headers"):
        if isinstance(given := new.get(part), Mapping) and MASK in given.values():
            restored[part] = _restore_part(part, given, new, old)
    return restored


def _restore_part(part: str, given: Mapping[str, Any], new: Entry, old: Entry) -> dict[str, Any]:
    stored = old.get(part)
    known = stored if isinstance(stored, Mapping) else {}
    here, there = (_url_host("url", str(one.get("url", ""))) for one in (new, old))
    for name in (name for name, value in given.items() if value == MASK):
        _require_same_host((part, str(name)), here, there, known.get(name))
    return {name: known[name] if value == MASK else value for name, value in given.items()}


def _restore_url(key: str, text: str, stored: object) -> str:
    before = stored if isinstance(stored, str) else ""
    known: dict[str, str] = {}
    _url_secrets(key, before, lambda place, secret: known.setdefault(place, secret))  # noqa: PLW0108 - typed

    def restore(place: str, secret: str) -> str:
        if secret != MASK:
            return secret
        _require_same_host((key,), _url_host(key, text), _url_host(key, before), known.get(place))
        return known[place]

    return _url_secrets(key, text, restore)


def _require_same_host(loc: tuple[str, ...], host: object, stored_host: object, stored_secret: object) -> None:
    if not stored_secret or stored_secret == MASK:
        problem = f"holds {MASK}, but no secret is stored for it: give the secret itself"
    elif host != stored_host:
        problem = "the secret is kept for its own host only: give it again together with the new host"
    else:
        return
    raise InvalidInput.of(loc, problem)


def _config_host(config: Entry) -> tuple[str, str, str]:
    kind = str(config.get("type", "")).lower()
    return kind, str(config.get("host", "")).lower(), str(config.get("port") or _PORTS.get(kind, ""))


def _url_host(key: str, text: str) -> object:
    """Where ``text`` really leads: its scheme, host and port, and the parameters that name another host."""
    userinfo = _USERINFO[key].fullmatch(text)
    scheme, _, rest = text.partition("://")
    place = userinfo["tail"] if userinfo else rest
    authority = re.split(r"[/?#]", place, maxsplit=1)[0].rpartition("@")[2].lower()
    dialect = scheme.lower().partition("+")[0]
    host, colon, port = authority.rpartition(":")
    if not colon or not port.isdigit():
        host, port = authority.removesuffix(":"), _PORTS.get(dialect, "")
    names = ((unquote_plus(name).lower(), value) for _, name, value in _PARAMETER.findall(text))
    return dialect, host, port, sorted(pair for pair in names if pair[0] in _HOST_PARAMETERS)


def _with_secrets(entry: Entry, replace: Replace) -> dict[str, Any]:
    """``entry`` with ``replace`` applied to each of its secrets."""
    changed = dict(entry)
    config = entry.get("db_config")
    if isinstance(config, Mapping) and config.get("password") not in (None, ""):
        changed["db_config"] = {**config, "password": replace(str(config["password"]))}
    for key in URL_KEYS:
        if isinstance(text := entry.get(key), str):
            changed[key] = _url_secrets(key, text, lambda _, secret: replace(secret))
    for part, is_secret in (("auth", SECRET_AUTH_KEYS.__contains__), ("headers", _SECRET_HEADER.search)):
        pairs = entry.get(part)
        if isinstance(pairs, str) and pairs:
            changed[part] = replace(pairs)
        elif isinstance(pairs, Mapping):
            changed[part] = {
                name: replace(str(value)) if value not in (None, "") and is_secret(str(name)) else value
                for name, value in pairs.items()
            }
    return changed


def _url_secrets(key: str, text: str, replace: Callable[[str, str], str]) -> str:
    """``text`` with ``replace(place, secret)`` applied to its password and to each secret parameter."""
    if (userinfo := _USERINFO[key].fullmatch(text)) and userinfo["secret"]:
        head, secret, tail = userinfo["head"], userinfo["secret"], userinfo["tail"]
        return f"{head}{replace('://', secret)}{_parameter_secrets(tail, replace)}"
    return _parameter_secrets(text, replace)


def _parameter_secrets(text: str, replace: Callable[[str, str], str]) -> str:
    def one(found: re.Match[str]) -> str:
        mark, name, value = found.groups()
        if not value or not _SECRET_NAME.search(unquote_plus(name)):
            return found[0]
        return f"{mark}{name}={replace(name, value)}"

    return _PARAMETER.sub(one, text)


def _encode_references(key: str, value: object) -> object:
    """A URL in which references to plain secrets are already replaced by their percent-encoded values."""
    if key not in URL_KEYS or not isinstance(value, str):
        return value

    def encode(text: str) -> str:
        return REFERENCE.sub(lambda found: quote(os.environ[found[1]], safe=""), text)

    text = _url_secrets(key, value, lambda place, secret: encode(secret) if place == "://" else secret)
    return _PARAMETER.sub(lambda found: f"{found[1]}{found[2]}={encode(found[3])}", text)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _map_texts(value: Any, change: Replace) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map_texts(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_map_texts(part, change) for part in value]
    return value


def redact_variables(text: str, entry: Entry) -> str:
    """``text`` with every ``${NAME}`` of the entry as written, wherever what it stands for has slipped in."""
    return redact(text, variable_redactions(entry))


def variable_redactions(entry: Entry) -> dict[str, str]:
    """What the environment variables of ``entry`` stand for, in every form that it may take → ``${NAME}``."""
    found: dict[str, str] = {}
    for name in sorted(_references(entry)):
        value = os.environ.get(name, "")
        if len(value) >= MIN_SECRET_LENGTH:
            forms = value, quote(value), quote(value, safe=""), repr(value)[1:-1]
            found |= dict.fromkeys(forms, f"${{{name}}}")
    return found


def redact(text: str, replacements: Mapping[str, str]) -> str:
    """``text`` with what each secret is told as in its place, also where only the beginning of a secret stands.

    Sentences shorten what they quote. Of secrets that begin alike the one that shares most is meant.
    """
    if not replacements:
        return text
    heads = re.compile("|".join(re.escape(secret[:MIN_PREFIX]) for secret in replacements))
    parts, end = list[str](), 0
    while found := heads.search(text, end):
        rest = text[found.start() :]
        shared, secret = max((_common_prefix_length(one, rest), one) for one in replacements)
        parts += text[end : found.start()], replacements[secret]
        end = found.start() + shared
    return "".join(parts) + text[end:]


def _common_prefix_length(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _references(entry: Entry) -> set[str]:
    return {name for text in _texts(entry) for name in REFERENCE.findall(text)}
