"""Everything that can be set: as a ``RECSERVER_*`` environment variable, on the command line, or in code."""

from __future__ import annotations

import contextlib
import json
import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from recserver.chefs.source_policy import SourcePolicy
from recserver.core.errors import ServerCannotStart
from recserver.core.validation.messages import field_errors
from recserver.training.jobs import TrainingLimits

MIN_KEY_LENGTH = 16
"""Characters of an API key."""


def is_loopback(host: str) -> bool:
    """Whether ``host``, an address or a name, can only be this machine."""
    name = host.lower().strip("[]")
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def available_memory() -> int:
    """Bytes of memory that the machine has, or the container if that has a lower limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [2**33]
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            limits.append(int(path.read_text()))
    return min(limits)


class Settings(BaseSettings):
    """The settings of one server. Each is also an environment variable: ``RECSERVER_PORT=8080``."""

    model_config = SettingsConfigDict(env_prefix="RECSERVER_", frozen=True, extra="forbid")

    read_only: bool = False
    """Whether the server only answers from a data folder that another one, or nobody, changes."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but a loopback address needs ``api_key``."""
    port: int = Field(9999, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    api_key: SecretStr | None = None
    """The key that every request but ``/health`` must bring, at least 16 characters."""
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Web origins, besides the server's own, whose pages may call the API, such as ``https://shop.example``."""
    csv_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders besides the data folder from which data chefs may read files."""
    default_database: str = "sqlite:///interactions.db"
    """Database URL for SQL chefs that name none; a relative SQLite path starts at the data folder."""
    allow_private_sources: bool | None = None
    """Whether REST chefs may fetch loopback and private addresses; unset: only if listening on loopback."""
    training_processes: int | None = Field(None, ge=1, le=1024)
    """Trainings that run at the same time; unset: one a core, less one for serving, at least one."""
    training_time_limit: float | None = Field(21_600.0, gt=0, le=31_622_400)
    """Seconds that one training may take in a worker, unless its task says otherwise."""
    training_memory_limit: int | None = Field(None, ge=1, le=2**24)
    """MiB that one training may take beyond what an idle worker takes, unless its task says otherwise."""
    model_memory: int | None = Field(None, ge=1, le=2**24)
    """MiB of model files kept in memory; unset: half of what the machine or its container has. Models that were
    not asked for the longest time leave it first, and are loaded again when they are asked for."""
    answer_cache: int = Field(64, ge=0, le=2**20)
    """MiB of answers kept to be given again while the same version of their model serves; 0 keeps none."""
    history_days: float = Field(90.0, gt=0, le=36_600)
    """Days for which runs are remembered; the newest of each task are kept beyond that."""
    history_runs: int = Field(10_000, ge=1, le=1_000_000)
    """Runs that are remembered at most."""
    model_versions: int = Field(5, ge=1, le=1000)
    """Versions of each model that are kept, beside pinned ones and what is needed to go back once."""
    training_priority: Literal["idle", "low"] = "idle"
    """``idle``: trainings take the processor time that nothing else on the machine wants, so that answers come as
    quickly as ever (Linux; elsewhere as ``low``). ``low``: a smaller share, but always one."""
    max_body_bytes: int = Field(2**20, ge=1024)
    """Bytes a JSON body may have."""
    max_source_bytes: int = Field(256 * 2**20, ge=1024)
    """Bytes a REST source may send, counted after decompression."""
    max_file_bytes: int = Field(64 * 2**30, ge=1024)
    """Bytes a file that a data chef reads may hold, counted after decompression."""
    source_timeout: float = Field(600.0, gt=0, le=86_400)
    """Seconds that reading a REST source, or one SQL statement, may take."""
    rescan_seconds: float = Field(10.0, ge=0.1, le=3_600)
    """Seconds after which the folders are looked at again even if no change was reported."""
    shutdown_grace: float = Field(30.0, ge=0, le=3_600)
    """Seconds that requests in flight get to finish when the server closes."""
    workers: int = Field(1, ge=1, le=256)
    """Processes that serve on the same port: one that writes the data folder, and others that answer beside it.
    For the command line only."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """``console``, ``json``, or ``auto``: console on a terminal, else JSON. For the command line only."""

    @field_validator("allowed_origins", "csv_roots", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        """A list may be written plainly, with commas between, or as JSON."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [part.strip() for part in value.split(",") if part.strip()]

    @field_validator("api_key")
    @classmethod
    def _check_api_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        stripped = key.get_secret_value().strip()  # as headers are, on their way here
        if len(stripped) < MIN_KEY_LENGTH:
            raise ValueError(
                f"an API key needs at least {MIN_KEY_LENGTH} characters: make one with "
                "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        return SecretStr(stripped)

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
                raise ValueError(f"{origin!r} is no web origin: write it like https://shop.example")
        return tuple(origin.rstrip("/").lower() for origin in origins)

    @model_validator(mode="after")
    def _require_api_key(self) -> Self:
        if not self.on_loopback and self.api_key is None:
            raise ValueError(
                f"listening on {self.host} would let anybody on the network in: "
                "set RECSERVER_API_KEY, or listen on 127.0.0.1"
            )
        return self

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def limits(self) -> TrainingLimits:
        """What a training may take whose task says nothing of it."""
        return TrainingLimits(seconds=self.training_time_limit, memory=self.training_memory_limit)

    def model_memory_bytes(self) -> int:
        """Bytes of model files that may be in memory. Reads files of the system: not for the loop."""
        return self.model_memory * 2**20 if self.model_memory else available_memory() // 2

    def source_policy(self, data_dir: Path) -> SourcePolicy:
        """What data chefs may reach under these settings."""
        allowed = self.on_loopback if self.allow_private_sources is None else self.allow_private_sources
        return SourcePolicy(
            data_dir=data_dir,
            csv_roots=tuple(root.resolve() for root in self.csv_roots),
            allow_private_sources=allowed,
            default_database=self.default_database,
            max_source_bytes=self.max_source_bytes,
            max_file_bytes=self.max_file_bytes,
            source_timeout=self.source_timeout,
        )


def load_settings(**given: Any) -> Settings:
    """The settings of the environment, overridden by those given that are not None.

    Raises:
        ServerCannotStart: naming every setting that cannot be used.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = [
            f"{'RECSERVER_' + '_'.join(one.loc).upper() + ': ' if one.loc else ''}{one.msg}"
            for one in field_errors(error)
        ]
        raise ServerCannotStart("; ".join(problems) + ".") from None
