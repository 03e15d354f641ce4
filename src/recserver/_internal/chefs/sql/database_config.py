"""The configuration of a database: ``db_config`` of an entry, or a database URL."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import unquote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from recserver._internal.chefs.chef_entry import has_reference
from recserver._internal.chefs.ssrf_guard import address_error, host_error
from recserver._internal.core.errors import SourceFailed, quoted
from recserver._internal.core.validation.values import Bool, Text, whole_number_between

if TYPE_CHECKING:
    from sqlalchemy import URL

DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mssql": "pyodbc", "oracle": "oracledb"}

_DIALECT_ALIASES = {"postgres": "postgresql", "mariadb": "mysql"}

_ALLOWED_PARAMETERS = {
    "sqlite": {"mode=ro"},
    "postgresql": {
        "application_name",
        "channel_binding",
        "client_encoding",
        "gssencmode",
        "sslcert",
        "sslkey",
        "sslmode",
        "sslrootcert",
    },
    "mysql": {"charset", "ssl_ca", "ssl_cert", "ssl_check_hostname", "ssl_key"},
    "mssql": {"Encrypt", "TrustServerCertificate", "driver"},
    "oracle": {"service_name"},
}
"""Parameters allowed in a database URL. Others could disable the read-only mode, or connect to another host."""


def _text_or_number(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_check_port_number = whole_number_between(1, 65535, "a port")


def _check_port(value: object) -> object:
    return value if isinstance(value, str) and has_reference(value) else _check_port_number(value)


def _check_type(value: object) -> str:
    kind = str(value).lower()
    if kind not in ("sqlite", "postgresql", "mysql", *_DIALECT_ALIASES):
        raise ValueError("must be sqlite, postgresql or mysql")
    return kind


TextOrNumber = Annotated[Text, BeforeValidator(_text_or_number)]


class DbConfig(BaseModel):
    """``db_config`` of an entry; SQLite needs only ``type`` and ``database``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: Annotated[str, BeforeValidator(_check_type)]
    database: TextOrNumber
    host: Text | None = None
    port: Annotated[int | str | None, BeforeValidator(_check_port)] = None
    user: TextOrNumber | None = None
    username: TextOrNumber | None = None
    password: TextOrNumber | None = Field(None, repr=False)
    ssl: Bool = False

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: item for key, item in value.items() if item is not None and item != ""}

    @model_validator(mode="after")
    def _check_user(self) -> Self:
        if self.user and self.username and self.user != self.username:
            raise ValueError("user and username differ: give one")
        return self


@dataclass(frozen=True, slots=True)
class Database:
    """A database.

    Attributes:
        dialect: ``sqlite`` or a key of :data:`DRIVERS`.
        path: path of an SQLite file, as written.
        file: path of an SQLite file that may be read, absolute.
        url: URL of any other database, with the driver used here; its text form hides the password.
        tls: whether a MySQL connection must be encrypted; for PostgreSQL ``url`` has a parameter.
        trusted: whether it is configured in the server's settings, so that its file may be anywhere.
    """

    dialect: str
    path: str = ""
    file: Path | None = None
    url: URL | None = None
    tls: bool = False
    trusted: bool = False


def database_from_config(config: DbConfig) -> Database:
    """The database of a validated ``db_config`` without references.

    Raises:
        ValueError: if a data chef may not use it.
    """
    dialect = _DIALECT_ALIASES.get(config.type, config.type)
    if dialect == "sqlite":
        return Database("sqlite", path=config.database)
    from sqlalchemy import URL

    url = URL.create(
        dialect,
        username=config.user or config.username,
        password=config.password,
        host=config.host or "localhost",
        port=int(config.port) if config.port else None,
        database=config.database,
        query={"sslmode": "require"} if config.ssl and dialect == "postgresql" else {},
    )
    return Database(dialect, url=_server_url(url, dialect), tls=config.ssl)


def dialect_of(text: str) -> str | None:
    """The dialect in a URL's scheme; None if an environment variable holds it."""
    scheme = text.partition("://")[0]
    if has_reference(scheme):
        return None
    name = scheme.lower().partition("+")[0]
    return _DIALECT_ALIASES.get(name, name)


def database_from_url(text: str, *, trusted: bool = False) -> Database:
    """The database of a URL without references. A driver in its scheme is replaced by the one used here.

    Raises:
        ValueError: if a data chef may not use it; the message quotes only parameter names of the URL.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    dialect = dialect_of(text)
    if "://" not in text or dialect not in _ALLOWED_PARAMETERS:
        raise ValueError("must be a database URL such as postgresql://user:${PASSWORD}@host/database")
    if "\0" in unquote(text):
        raise ValueError("contains a NUL character, where drivers would truncate it: remove it")
    try:
        url = make_url(f"{dialect}:{text.partition(':')[2]}")
    except (ArgumentError, ValueError):
        raise ValueError("is not a valid database URL: percent-encode special characters in it") from None
    _check_parameters(dialect, {name: str(value) for name, value in url.query.items()})
    if dialect == "sqlite":
        if url.host or url.username:
            raise ValueError("has a host: use sqlite:///name.db for a file in the data folder")
        return Database("sqlite", path=url.database or "", trusted=trusted)
    return Database(dialect, url=_server_url(url, dialect), trusted=trusted)


def _check_parameters(dialect: str, parameters: Mapping[str, str]) -> None:
    for name, value in parameters.items():
        allowed = _ALLOWED_PARAMETERS[dialect]
        if (name not in allowed and f"{name}={value}" not in allowed) or (name == "driver" and "/" in value):
            raise ValueError(f"has the parameter {quoted(name)}, which is not allowed here: remove it")


def _server_url(url: URL, dialect: str) -> URL:
    """``url`` with the driver used here, if data chefs may connect to its host."""
    host, database = url.host or "localhost", url.database or ""
    if any(ord(char) <= 32 or char in "@?#,%" for char in host):
        raise ValueError("the host must be one name or address")
    if "=" in database or "://" in database:
        raise ValueError("the database must be a plain name")
    if problem := host_error(host, allow_private=True):
        raise ValueError(problem)
    return url.set(drivername=f"{dialect}+{DRIVERS[dialect]}")


def missing_driver_message(dialect: str, action: str = "Reading") -> str | None:
    """The message with the command that installs the driver of ``dialect``; None if it is installed."""
    driver = DRIVERS.get(dialect)
    if driver is None or find_spec(driver):
        return None
    extra = "postgres" if dialect == "postgresql" else dialect
    return f'{action} {dialect} needs a driver that is not installed: pip install "recserver[{extra}]"'


def check_resolved_address(url: URL) -> None:
    """Check the addresses that the host of a database resolves to.

    Private networks are allowed, regardless of the policy for REST sources: most databases are in one.

    Raises:
        SourceFailed: if data chefs may not connect to one of them.
    """
    if not url.host or url.host.startswith("/"):
        return
    try:
        results = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise SourceFailed(f"The database's host {quoted(url.host)} cannot be found: correct its name.") from None
    for *_, sockaddr in results:
        address = ip_address(str(sockaddr[0]).partition("%")[0])
        if problem := address_error(address, allow_private=True):
            raise SourceFailed(f"The database cannot be read: {problem}.")
