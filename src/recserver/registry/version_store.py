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
from recserver.registry.model_config import METADATA_SUFFIX, highest_version
from recserver.registry.model_status import ModelStatus
from recserver.registry.model_store import ModelStore
from recserver.registry.version_files import PINNED_KEY, Version, VersionFiles
from recserver.storage import atomic_files as files
from recserver.storage.transaction import Transaction

__all__ = ["Version", "VersionStore"]


class VersionStore:
    """The versions of the models of one data folder."""

    def __init__(self, models: ModelStore) -> None:
        self._models = models
        self._files = VersionFiles(models)

    async def read_all(self, model_id: str) -> list[Version]:
        """A model's versions, damaged ones included, newest first; the one that serves is among them."""
        return await asyncio.to_thread(self._files.read_all, model_id)

    async def find(self, model_id: str, number: int) -> Version:
        """One version.

        Raises:
            VersionNotFound: if there is no such one, or no more.
        """
        found = next((one for one in await self.read_all(model_id) if one.model_version == number), None)
        if found is None:
            raise VersionNotFound(model_id, number)
        return found

    def path(self, model_id: str, number: int) -> Path:
        """Where the packed model of a version lies."""
        return self._files.path(model_id, number)

    async def newest_and_highest(self, model_id: str) -> tuple[Version | None, int]:
        """The version that was trained last, whether it serves or not, and the :meth:`highest` number."""
        return await asyncio.to_thread(lambda: (self._files.newest(model_id), self._files.highest(model_id)))

    async def serving(self, model_id: str) -> int:
        """The number of the version that serves, by the model's metadata, else its config; 0 if there is none."""
        return highest_version(await self._models.metadata(model_id)) or await asyncio.to_thread(
            lambda: highest_version(self._models.config_sync(model_id))
        )

    async def highest(self, model_id: str) -> int:
        """The highest number that a version of the model ever had, as far as its files tell; 0 if none."""
        return await asyncio.to_thread(self._files.highest, model_id)

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
            return await files.to_thread_shielded(
                self._publish, model_id, packed, version, status, frozenset(drop)
            )

    async def store_candidate(
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
            await files.to_thread_shielded(
                self._store_candidate, model_id, packed, version, status, frozenset(drop), config_changes=changes
            )

    async def activate(
        self,
        model_id: str,
        version: Version,
        status: ModelStatus | None,
        drop: Iterable[str] = (),
        **config_changes: Any,
    ) -> os.stat_result:
        """Put a kept version in the place of the one that serves; a ``status`` of None stays as it is.

        Args:
            told: what the config is to say besides.
        """
        async with self._models.locks.changing(model_id):
            return await files.to_thread_shielded(
                self._activate, model_id, version, status, frozenset(drop), config_changes=config_changes
            )

    async def replace_damaged(
        self,
        model_id: str,
        version: Version,
        damaged: os.stat_result | None,
        quarantine_name: str,
        drop: Iterable[str] = (),
    ) -> os.stat_result:
        """Put a kept version in the place of a file that is damaged or missing.

        Args:
            damaged: the status of that file, None if it is missing.
            aside: the name under which it is kept.

        Raises:
            ModelChanged: if there is another file by now.
        """
        async with self._models.locks.changing(model_id):
            return await files.to_thread_shielded(
                self._replace_damaged, model_id, version, damaged, quarantine_name, frozenset(drop)
            )

    async def store_serving(self, model_id: str, packed: Path, version: Version) -> None:
        """Keep what serves without ever having been published as a version, and say that it serves."""
        async with self._models.locks.changing(model_id):
            await files.to_thread_shielded(self._store_serving, model_id, packed, version)

    async def update(self, model_id: str, version: Version) -> None:
        """Write the record of a version anew, and its pin to the model's config, where no record can lose it."""
        async with self._models.locks.changing(model_id):
            await files.to_thread_shielded(self._update, model_id, version)

    async def prune(self, model_id: str, keep: Collection[int]) -> None:
        """Remove the versions that are not among those to keep."""
        async with self._models.locks.changing(model_id):
            await files.to_thread_shielded(self._prune, model_id, keep)

    def _publish(
        self, model_id: str, packed: Path, version: Version, status: ModelStatus, drop: frozenset[str]
    ) -> os.stat_result:
        file = packed.stat()
        with self._transaction(model_id) as changes:
            self._store_serving_if_missing(changes, model_id)
            self._stage_version(changes, model_id, packed, version)
            changes.move_into_place(packed, self._models.model_path(model_id))
            self._stage_metadata_and_config(changes, model_id, version, status, drop)
            changes.commit()
        return file

    def _store_candidate(
        self,
        model_id: str,
        packed: Path,
        version: Version,
        status: ModelStatus,
        drop: frozenset[str],
        *,
        config_changes: Mapping[str, Any],
    ) -> None:
        with self._transaction(model_id) as changes:
            self._stage_version(changes, model_id, packed, version)
            changes.write(*self._models.render_config(model_id, status, drop, config_changes))
            changes.commit()

    def _activate(
        self,
        model_id: str,
        version: Version,
        status: ModelStatus | None,
        drop: frozenset[str],
        *,
        config_changes: Mapping[str, Any],
    ) -> os.stat_result:
        with self._transaction(model_id) as changes:
            self._store_serving_if_missing(changes, model_id)
            return self._stage_activation(changes, model_id, version, status, drop, config_changes=config_changes)

    def _replace_damaged(
        self,
        model_id: str,
        version: Version,
        damaged: os.stat_result | None,
        quarantine_name: str,
        drop: frozenset[str],
    ) -> os.stat_result:
        with self._transaction(model_id) as changes:
            now = self._models.file_stat_sync(model_id)
            if (now and files.file_stamp(now)) != (damaged and files.file_stamp(damaged)):
                raise ModelChanged(model_id)
            if damaged is None:
                return self._stage_activation(changes, model_id, version, None, drop, config_changes={})
            changes.link(self._models.model_path(model_id), self._models.folder / quarantine_name)
            return self._stage_activation(
                changes, model_id, version, None, drop, config_changes={"quarantined": quarantine_name}
            )

    def _stage_activation(
        self,
        transaction: Transaction,
        model_id: str,
        version: Version,
        status: ModelStatus | None,
        drop: frozenset[str],
        *,
        config_changes: Mapping[str, Any],
    ) -> os.stat_result:
        source = self.path(model_id, version.model_version)
        file = source.stat()
        transaction.link(source, self._models.model_path(model_id))
        self._stage_record(transaction, model_id, version)
        self._stage_metadata_and_config(
            transaction, model_id, version, status, drop, config_changes=config_changes
        )
        transaction.commit()
        return file

    def _store_serving(self, model_id: str, packed: Path, version: Version) -> None:
        with self._transaction(model_id) as changes:
            self._stage_version(changes, model_id, packed, version)
            self._stage_metadata_and_config(changes, model_id, version, None, frozenset())
            changes.commit()

    def _update(self, model_id: str, version: Version) -> None:
        number = version.model_version
        with self._transaction(model_id) as changes:
            pins = {one.model_version for one in self._files.read_all(model_id) if one.pinned} - {number}
            pins |= {number} if version.pinned else set()
            told, drop = ({PINNED_KEY: sorted(pins)}, frozenset[str]()) if pins else ({}, frozenset({PINNED_KEY}))
            self._store_serving_if_missing(changes, model_id)
            if not version.unrecorded:
                self._stage_record(changes, model_id, version)
            changes.write(*self._models.render_config(model_id, None, drop, told))
            changes.commit()

    def _prune(self, model_id: str, keep: Collection[int]) -> None:
        too_many = [number for number in self._files.numbers(model_id) if number not in keep]
        if not too_many:
            return
        with self._transaction(model_id) as changes:
            for number in too_many:
                changes.remove(self.path(model_id, number))
                changes.remove(self._files.record_path(model_id, number))
            changes.commit()

    def _transaction(self, model_id: str) -> Transaction:
        return Transaction(self._models.folder, model_id)

    def _store_serving_if_missing(self, transaction: Transaction, model_id: str) -> None:
        """Keep the version that serves under its number too, if it was trained before versions were kept."""
        serving = self._files.serving(model_id)
        if serving and not self.path(model_id, serving.model_version).exists():
            self._stage_version(transaction, model_id, self._models.model_path(model_id), serving)

    def _stage_version(self, transaction: Transaction, model_id: str, packed: Path, version: Version) -> None:
        files.disk.make_folder(self._models.versions_folder(model_id))
        transaction.link(packed, self.path(model_id, version.model_version))
        self._stage_record(transaction, model_id, version)

    def _stage_record(self, transaction: Transaction, model_id: str, version: Version) -> None:
        transaction.write(
            self._files.record_path(model_id, version.model_version), files.json_bytes(version.model_dump())
        )

    def _stage_metadata_and_config(
        self,
        transaction: Transaction,
        model_id: str,
        version: Version,
        status: ModelStatus | None,
        drop: frozenset[str],
        *,
        config_changes: Mapping[str, Any] | None = None,
    ) -> None:
        """Stage what the metadata and the config tell of the version that is to serve, and ``told`` besides."""
        transaction.write(self._models.path(model_id, METADATA_SUFFIX), files.json_bytes(version.metadata))
        transaction.write(
            *self._models.render_config(model_id, status, drop, {**version.config, **(config_changes or {})})
        )
