"""The settings, from ``RECSERVER_*`` environment variables, the command line, or code."""

from __future__ import annotations

import contextlib
import json
import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import ServerCannotStart
from recserver._internal.core.validation.messages import field_errors
from recserver._internal.registry.retention import DEFAULT_MODEL_VERSIONS
from recserver._internal.training.jobs import TrainingLimits

MIN_KEY_LENGTH = 16
"""Minimum characters of an API key."""


def is_loopback(host: str) -> bool:
    """Whether ``host``, an address or a name, is always this machine."""
    name = host.lower().strip("[]")
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def available_memory() -> int:
    """Bytes of memory of the machine, or of the container if its limit is lower."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [2**33]
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        with contextlib.suppress(OSError, ValueError):  # "max" is not a number
            limits.append(int(path.read_text()))
    return min(limits)


class Settings(BaseSettings):
    """The settings of a server. Each can be set by an environment variable, such as ``RECSERVER_PORT=8080``."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="RECSERVER_", frozen=True, extra="forbid"
    )

    read_only: bool = False
    """Whether the server changes nothing in the data folder, which another server may write."""
    host: str = "127.0.0.1"
    """Address to listen on. All but loopback addresses need ``api_key``."""
    port: int = Field(default=9999, ge=0, le=65535)
    """Port to listen on; 0 selects a free one."""
    api_key: SecretStr | None = None
    """The key that all requests except ``/health`` must send; at least 16 characters."""
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Web origins, besides the server's own, whose pages may call the API, such as ``https://shop.example``."""
    csv_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders, besides the data folder, from which data chefs may read files."""
    default_database: str = "sqlite:///interactions.db"
    """Database URL of SQL chefs that give none; relative SQLite paths are relative to the data folder."""
    allow_private_sources: bool | None = None
    """Whether REST chefs may fetch loopback and private addresses; default: only when listening on loopback."""
    training_processes: int | None = Field(default=None, ge=1, le=1024)
    """Trainings that run at the same time; default: the number of cores minus one, at least one."""
    training_time_limit: float | None = Field(default=21_600.0, gt=0, le=31_622_400)
    """Seconds that a training may take in a worker, unless its task sets a limit."""
    training_memory_limit: int | None = Field(default=None, ge=1, le=2**24)
    """MiB that a training may use beyond what an idle worker uses, unless its task sets a limit."""
    model_memory: int | None = Field(default=None, ge=1, le=2**24)
    """MiB of model files in memory; default: half the memory of the machine or container. The least recently used
    models are evicted first, and loaded again on request."""
    answer_cache: int = Field(default=64, ge=0, le=2**20)
    """MiB of cached responses, each valid while the same version of its model serves; 0 disables the cache."""
    history_days: float = Field(default=90.0, gt=0, le=36_600)
    """Days for which runs are stored; the newest runs of each task are stored longer."""
    history_runs: int = Field(default=10_000, ge=1, le=1_000_000)
    """Maximum number of stored runs."""
    model_versions: int = Field(default=DEFAULT_MODEL_VERSIONS, ge=1, le=1000)
    """Versions stored for each model, besides pinned ones and those needed for one rollback."""
    training_priority: Literal["idle", "low"] = "idle"
    """``idle``: trainings use only processor time that nothing else on the machine needs, and delay no
    responses (Linux; elsewhere like ``low``). ``low``: a smaller share, but always some."""
    max_body_bytes: int = Field(default=2**20, ge=1024)
    """Maximum bytes of a JSON body."""
    max_source_bytes: int = Field(default=256 * 2**20, ge=1024)
    """Maximum bytes of the response of a REST source, after decompression."""
    max_file_bytes: int = Field(default=64 * 2**30, ge=1024)
    """Maximum bytes of a file that a data chef reads, after decompression."""
    source_timeout: float = Field(default=600.0, gt=0, le=86_400)
    """Seconds that reading a REST source, or an SQL statement, may take."""
    rescan_seconds: float = Field(default=10.0, ge=0.1, le=3_600)
    """Interval in seconds at which the folders are scanned even if no change was reported."""
    shutdown_grace: float = Field(default=30.0, ge=0, le=3_600)
    """Seconds that active requests get to finish when the server closes."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes that serve on the same port: one writer of the data folder, and its followers. Used by the command
    line only."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """``console``, ``json``, or ``auto``: console on a terminal, else JSON. Used by the command line only."""

    @field_validator("allowed_origins", "csv_roots", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        """Parse a list that is separated by commas, or JSON."""
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
        stripped = key.get_secret_value().strip()  # as HTTP headers are
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
                raise ValueError(f"{origin!r} is not a valid web origin: write it like https://shop.example")
        return tuple(origin.rstrip("/").lower() for origin in origins)

    @model_validator(mode="after")
    def _require_api_key(self) -> Self:
        if not self.on_loopback and self.api_key is None:
            raise ValueError(
                f"listening on {self.host} allows requests from the network: "
                "set RECSERVER_API_KEY, or listen on 127.0.0.1"
            )
        return self

    @property
    def on_loopback(self) -> bool:
        """Whether the server listens on a loopback address."""
        return is_loopback(self.host)

    @property
    def limits(self) -> TrainingLimits:
        """The limits of trainings whose tasks set none."""
        return TrainingLimits(seconds=self.training_time_limit, memory=self.training_memory_limit)

    def model_memory_bytes(self) -> int:
        """Maximum bytes of model files in memory. Reads system files, so it must not run on the event loop."""
        return self.model_memory * 2**20 if self.model_memory else available_memory() // 2

    def source_policy(self, data_dir: Path) -> SourcePolicy:
        """The files, databases and addresses that data chefs may access."""
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


def load_settings(**overrides: Any) -> Settings:
    """The settings of the environment, with those of ``overrides`` that are not None.

    Raises:
        ServerCannotStart: naming every invalid setting.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        problems = [
            f"{'RECSERVER_' + '_'.join(one.loc).upper() + ': ' if one.loc else ''}{one.msg}"
            for one in field_errors(error)
        ]
        raise ServerCannotStart("; ".join(problems) + ".") from None
