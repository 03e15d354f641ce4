"""``models/.versions/{id}/{number}.pkl`` and ``.json``: a model's versions, also those that serve no more.

The ``.pkl`` of the version that serves is the same file as ``models/{id}.pkl``, under a second name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recserver.errors import InvalidInput, VersionNotFound
from recserver.specs.models import ModelStatus
from recserver.store import files
from recserver.store.changes import Changes
from recserver.store.model_files import METADATA, highest_version
from recserver.store.models import ModelStore

TOLD = (
    "training_completed_at",
    "last_saved_at",
    "model_version",
    "model_metrics",
    "final_stats",
    "training_warnings",
)
"""What a training that ended well leaves in the model's config."""

logger = logging.getLogger(__name__)


class Version(BaseModel):
    """One version of a model, as its record tells of it."""

    model_config = ConfigDict(extra="allow")

    model_version: int
    created_at: str
    metadata: dict[str, Any]
    """What the model's metadata file says while it serves."""
    config: dict[str, Any] = Field(default_factory=dict)
    """What its training left in the model's config."""
    promoted: bool = True
    """Whether it has ever served."""
    pinned: bool = False
    """Whether it is kept however many follow, and goes on serving if it does."""
    served_before: int | None = None
    """The version in whose place it came."""
    size: int = Field(default=0, exclude=True)
    """Bytes of its ``.pkl``."""


class VersionStore:
    """The versions of the models of one data folder."""

    def __init__(self, models: ModelStore) -> None:
        self._models = models

    async def all(self, model_id: str) -> list[Version]:
        """A model's versions that can be served, newest first; the one that serves is among them."""
        return await asyncio.to_thread(self._all, model_id)

    async def find(self, model_id: str, number: int) -> Version:
        """One version.

        Raises:
            VersionNotFound: if there is no such one, or no more.
        """
        found = next((one for one in await self.all(model_id) if one.model_version == number), None)
        if found is None:
            raise VersionNotFound(model_id, number)
        return found

    def path(self, model_id: str, number: int) -> Path:
        """Where the packed model of a version lies."""
        return self._models.versions(model_id) / f"{number}.pkl"

    async def last(self, model_id: str) -> tuple[Version | None, int]:
        """The version that was trained last, whether it serves or not, and the :meth:`highest` number."""
        return await asyncio.to_thread(lambda: (self._newest(model_id), self._highest(model_id)))

    async def serving(self, model_id: str) -> int:
        """The number of the version that serves, by the model's metadata, else its config; 0 if there is none."""
        return highest_version(await self._models.metadata(model_id)) or await asyncio.to_thread(
            lambda: highest_version(self._models.config_of(model_id))
        )

    async def highest(self, model_id: str) -> int:
        """The highest number that a version of the model ever had, as far as its files tell; 0 if none."""
        return await asyncio.to_thread(self._highest, model_id)

    async def publish(
        self, model_id: str, packed: Path, version: Version, status: ModelStatus, drop: Iterable[str] = ()
    ) -> os.stat_result:
        """Let a new version serve: its files, the metadata and the config change together.

        Args:
            packed: becomes ``models/{id}.pkl``; it lies beside it.
            drop: keys that go from the config.

        Raises:
            ModelNotFound: if the model's config is gone.
            OSError: if it cannot be written; then nothing has changed.
        """
        async with self._models.lock(model_id):
            return await files.to_the_end(self._publish, model_id, packed, version, status, frozenset(drop))

    async def keep(
        self,
        model_id: str,
        packed: Path,
        version: Version,
        status: ModelStatus,
        drop: Iterable[str] = (),
        **changes: Any,
    ) -> None:
        """Keep a new version beside the one that serves, and tell of it in the config, both together."""
        async with self._models.lock(model_id):
            await files.to_the_end(self._keep, model_id, packed, version, status, frozenset(drop), told=changes)

    async def serve(
        self,
        model_id: str,
        version: Version,
        status: ModelStatus | None,
        drop: Iterable[str] = (),
        aside: str | None = None,
    ) -> os.stat_result:
        """Put a kept version in the place of the one that serves; a ``status`` of None stays as it is.

        Args:
            aside: the name under which the file is kept that served until now.
        """
        async with self._models.lock(model_id):
            return await files.to_the_end(self._serve, model_id, version, status, frozenset(drop), aside=aside)

    async def change(self, model_id: str, version: Version) -> None:
        """Write the record of a version anew."""
        async with self._models.lock(model_id):
            await files.to_the_end(self._change, model_id, version)

    async def prune(self, model_id: str, keep: Collection[int]) -> None:
        """Remove the versions that are not among those to keep."""
        async with self._models.lock(model_id):
            await files.to_the_end(self._prune, model_id, keep)

    def _record(self, model_id: str, number: int) -> Path:
        return self._models.versions(model_id) / f"{number}.json"

    def _all(self, model_id: str) -> list[Version]:
        found = {
            one.model_version: one for number in self._numbers(model_id) if (one := self._read(model_id, number))
        }
        if (serving := self._serving(model_id)) and serving.model_version not in found:
            found[serving.model_version] = serving  # it was trained before versions were kept
        return [found[number] for number in sorted(found, reverse=True)]

    def _newest(self, model_id: str) -> Version | None:
        numbers = self._numbers(model_id)
        return self._read(model_id, max(numbers)) if numbers else self._serving(model_id)

    def _numbers(self, model_id: str) -> list[int]:
        try:
            names = os.listdir(self._models.versions(model_id))  # noqa: PTH208 - the names alone
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [
            int(name[:-4])
            for name in names
            if name.endswith(".pkl") and name[:-4].isascii() and name[:-4].isdigit()
        ]

    def _read(self, model_id: str, number: int) -> Version | None:
        try:
            status = self.path(model_id, number).lstat()
            version = Version.model_validate(files.object_in(self._record(model_id, number)))
        except (OSError, InvalidInput, ValidationError) as error:
            logger.warning("version %d of model %s cannot be used: %s", number, model_id, error)
            return None
        if not stat.S_ISREG(status.st_mode) or version.model_version != number:
            return None
        return version.model_copy(update={"size": status.st_size})

    def _serving(self, model_id: str) -> Version | None:
        """The version that serves, as the model's own files tell of it."""
        metadata, status = self._models.metadata_of(model_id), self._models.status_of(model_id)
        number = highest_version(metadata)
        if not number or status is None:
            return None
        config = self._models.config_of(model_id)
        return Version(
            model_version=number,
            created_at=str(metadata.get("saved_at", "")),
            metadata=metadata,
            config={key: config[key] for key in TOLD if key in config},
            size=status.st_size,
        )

    def _highest(self, model_id: str) -> int:
        metadata = self._models.metadata_of(model_id)
        return max(highest_version(self._models.config_of(model_id), metadata), *self._numbers(model_id), 0)

    def _publish(
        self, model_id: str, packed: Path, version: Version, status: ModelStatus, drop: frozenset[str]
    ) -> os.stat_result:
        file = packed.stat()
        with self._changes(model_id) as changes:
            self._keep_serving(changes, model_id)
            self._stage_version(changes, model_id, packed, version)
            changes.move(packed, self._models.pickle(model_id))
            self._stage_told(changes, model_id, version, status, drop)
            changes.commit()
        return file

    def _keep(
        self,
        model_id: str,
        packed: Path,
        version: Version,
        status: ModelStatus,
        drop: frozenset[str],
        *,
        told: Mapping[str, Any],
    ) -> None:
        with self._changes(model_id) as changes:
            self._stage_version(changes, model_id, packed, version)
            changes.write(*self._models.changed_config(model_id, status, drop, told))
            changes.commit()

    def _serve(
        self, model_id: str, version: Version, status: ModelStatus | None, drop: frozenset[str], aside: str | None
    ) -> os.stat_result:
        with self._changes(model_id) as changes:
            told = version
            if aside is None:
                self._keep_serving(changes, model_id)
            else:
                changes.link(self._models.pickle(model_id), self._models.folder / aside)
                told = version.model_copy(update={"config": {**version.config, "quarantined": aside}})
            source = self.path(model_id, version.model_version)
            file = source.stat()
            changes.link(source, self._models.pickle(model_id))
            self._stage_record(changes, model_id, version)
            self._stage_told(changes, model_id, told, status, drop)
            changes.commit()
        return file

    def _change(self, model_id: str, version: Version) -> None:
        with self._changes(model_id) as changes:
            self._keep_serving(changes, model_id)
            self._stage_record(changes, model_id, version)
            changes.commit()

    def _prune(self, model_id: str, keep: Collection[int]) -> None:
        too_many = [number for number in self._numbers(model_id) if number not in keep]
        if not too_many:
            return
        with self._changes(model_id) as changes:
            for number in too_many:
                changes.remove(self.path(model_id, number))
                changes.remove(self._record(model_id, number))
            changes.commit()

    def _changes(self, model_id: str) -> Changes:
        return Changes(self._models.folder, model_id)

    def _keep_serving(self, changes: Changes, model_id: str) -> None:
        """Keep the version that serves under its number too, if it was trained before versions were kept."""
        serving = self._serving(model_id)
        if serving and not self.path(model_id, serving.model_version).exists():
            self._stage_version(changes, model_id, self._models.pickle(model_id), serving)

    def _stage_version(self, changes: Changes, model_id: str, packed: Path, version: Version) -> None:
        files.disk.make_folder(self._models.versions(model_id))
        changes.link(packed, self.path(model_id, version.model_version))
        self._stage_record(changes, model_id, version)

    def _stage_record(self, changes: Changes, model_id: str, version: Version) -> None:
        changes.write(self._record(model_id, version.model_version), files.as_json(version.model_dump()))

    def _stage_told(
        self, changes: Changes, model_id: str, version: Version, status: ModelStatus | None, drop: frozenset[str]
    ) -> None:
        """Stage what the metadata and the config tell of the version that is to serve."""
        changes.write(self._models.path(model_id, METADATA), files.as_json(version.metadata))
        changes.write(*self._models.changed_config(model_id, status, drop, version.config))
