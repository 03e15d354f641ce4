"""``models/.versions/{id}/{number}.pkl`` and ``.json``: a model's versions, also those that serve no more.

The ``.pkl`` of the version that serves is the same file as ``models/{id}.pkl``, under a second name.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from recserver.core.errors import ModelChanged, VersionNotFound
from recserver.registry.model_config import METADATA, highest_version
from recserver.registry.model_status import ModelStatus
from recserver.registry.model_store import ModelStore
from recserver.registry.version_files import PINS, Version, VersionFiles
from recserver.storage import atomic_files as files
from recserver.storage.transaction import Changes

__all__ = ["Version", "VersionStore"]


class VersionStore:
    """The versions of the models of one data folder."""

    def __init__(self, models: ModelStore) -> None:
        self._models = models
        self._there = VersionFiles(models)

    async def all(self, model_id: str) -> list[Version]:
        """A model's versions, damaged ones included, newest first; the one that serves is among them."""
        return await asyncio.to_thread(self._there.all, model_id)

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
        return self._there.path(model_id, number)

    async def last(self, model_id: str) -> tuple[Version | None, int]:
        """The version that was trained last, whether it serves or not, and the :meth:`highest` number."""
        return await asyncio.to_thread(lambda: (self._there.newest(model_id), self._there.highest(model_id)))

    async def serving(self, model_id: str) -> int:
        """The number of the version that serves, by the model's metadata, else its config; 0 if there is none."""
        return highest_version(await self._models.metadata(model_id)) or await asyncio.to_thread(
            lambda: highest_version(self._models.config_of(model_id))
        )

    async def highest(self, model_id: str) -> int:
        """The highest number that a version of the model ever had, as far as its files tell; 0 if none."""
        return await asyncio.to_thread(self._there.highest, model_id)

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
        async with self._models.locks.changing(model_id):
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
        async with self._models.locks.changing(model_id):
            await files.to_the_end(self._keep, model_id, packed, version, status, frozenset(drop), told=changes)

    async def serve(
        self,
        model_id: str,
        version: Version,
        status: ModelStatus | None,
        drop: Iterable[str] = (),
        **told: Any,
    ) -> os.stat_result:
        """Put a kept version in the place of the one that serves; a ``status`` of None stays as it is.

        Args:
            told: what the config is to say besides.
        """
        async with self._models.locks.changing(model_id):
            return await files.to_the_end(self._serve, model_id, version, status, frozenset(drop), told=told)

    async def replace(
        self, model_id: str, version: Version, damaged: os.stat_result | None, aside: str, drop: Iterable[str] = ()
    ) -> os.stat_result:
        """Put a kept version in the place of a file that is damaged or missing.

        Args:
            damaged: the status of that file, None if it is missing.
            aside: the name under which it is kept.

        Raises:
            ModelChanged: if there is another file by now.
        """
        async with self._models.locks.changing(model_id):
            return await files.to_the_end(self._replace, model_id, version, damaged, aside, frozenset(drop))

    async def adopt(self, model_id: str, packed: Path, version: Version) -> None:
        """Keep what serves without ever having been published as a version, and say that it serves."""
        async with self._models.locks.changing(model_id):
            await files.to_the_end(self._adopt, model_id, packed, version)

    async def change(self, model_id: str, version: Version) -> None:
        """Write the record of a version anew, and its pin to the model's config, where no record can lose it."""
        async with self._models.locks.changing(model_id):
            await files.to_the_end(self._change, model_id, version)

    async def prune(self, model_id: str, keep: Collection[int]) -> None:
        """Remove the versions that are not among those to keep."""
        async with self._models.locks.changing(model_id):
            await files.to_the_end(self._prune, model_id, keep)

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
        self,
        model_id: str,
        version: Version,
        status: ModelStatus | None,
        drop: frozenset[str],
        *,
        told: Mapping[str, Any],
    ) -> os.stat_result:
        with self._changes(model_id) as changes:
            self._keep_serving(changes, model_id)
            return self._put_in_place(changes, model_id, version, status, drop, told=told)

    def _replace(
        self, model_id: str, version: Version, damaged: os.stat_result | None, aside: str, drop: frozenset[str]
    ) -> os.stat_result:
        with self._changes(model_id) as changes:
            now = self._models.status_of(model_id)
            if (now and files.stamp_of(now)) != (damaged and files.stamp_of(damaged)):
                raise ModelChanged(model_id)
            if damaged is None:
                return self._put_in_place(changes, model_id, version, None, drop, told={})
            changes.link(self._models.pickle(model_id), self._models.folder / aside)
            return self._put_in_place(changes, model_id, version, None, drop, told={"quarantined": aside})

    def _put_in_place(
        self,
        changes: Changes,
        model_id: str,
        version: Version,
        status: ModelStatus | None,
        drop: frozenset[str],
        *,
        told: Mapping[str, Any],
    ) -> os.stat_result:
        source = self.path(model_id, version.model_version)
        file = source.stat()
        changes.link(source, self._models.pickle(model_id))
        self._stage_record(changes, model_id, version)
        self._stage_told(changes, model_id, version, status, drop, told=told)
        changes.commit()
        return file

    def _adopt(self, model_id: str, packed: Path, version: Version) -> None:
        with self._changes(model_id) as changes:
            self._stage_version(changes, model_id, packed, version)
            self._stage_told(changes, model_id, version, None, frozenset())
            changes.commit()

    def _change(self, model_id: str, version: Version) -> None:
        number = version.model_version
        with self._changes(model_id) as changes:
            pins = {one.model_version for one in self._there.all(model_id) if one.pinned} - {number}
            pins |= {number} if version.pinned else set()
            told, drop = ({PINS: sorted(pins)}, frozenset[str]()) if pins else ({}, frozenset({PINS}))
            self._keep_serving(changes, model_id)
            if not version.unrecorded:
                self._stage_record(changes, model_id, version)
            changes.write(*self._models.changed_config(model_id, None, drop, told))
            changes.commit()

    def _prune(self, model_id: str, keep: Collection[int]) -> None:
        too_many = [number for number in self._there.numbers(model_id) if number not in keep]
        if not too_many:
            return
        with self._changes(model_id) as changes:
            for number in too_many:
                changes.remove(self.path(model_id, number))
                changes.remove(self._there.record(model_id, number))
            changes.commit()

    def _changes(self, model_id: str) -> Changes:
        return Changes(self._models.folder, model_id)

    def _keep_serving(self, changes: Changes, model_id: str) -> None:
        """Keep the version that serves under its number too, if it was trained before versions were kept."""
        serving = self._there.serving(model_id)
        if serving and not self.path(model_id, serving.model_version).exists():
            self._stage_version(changes, model_id, self._models.pickle(model_id), serving)

    def _stage_version(self, changes: Changes, model_id: str, packed: Path, version: Version) -> None:
        files.disk.make_folder(self._models.versions(model_id))
        changes.link(packed, self.path(model_id, version.model_version))
        self._stage_record(changes, model_id, version)

    def _stage_record(self, changes: Changes, model_id: str, version: Version) -> None:
        changes.write(self._there.record(model_id, version.model_version), files.as_json(version.model_dump()))

    def _stage_told(
        self,
        changes: Changes,
        model_id: str,
        version: Version,
        status: ModelStatus | None,
        drop: frozenset[str],
        *,
        told: Mapping[str, Any] | None = None,
    ) -> None:
        """Stage what the metadata and the config tell of the version that is to serve, and ``told`` besides."""
        changes.write(self._models.path(model_id, METADATA), files.as_json(version.metadata))
        changes.write(*self._models.changed_config(model_id, status, drop, {**version.config, **(told or {})}))
