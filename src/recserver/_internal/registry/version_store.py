"""Changes of a model's versions in ``models/.versions/{id}/``, each one transaction.

The ``.pkl`` of the serving version is the same file as ``models/{id}.pkl``, under a second name.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from recserver._internal.core.errors import ModelChanged, VersionNotFound
from recserver._internal.registry.model_config import METADATA_SUFFIX, ConfigChange
from recserver._internal.registry.model_locks import ModelLocks, exclusive
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.registry.version_files import PINNED_KEY, Version, VersionFiles
from recserver._internal.storage import atomic_files as files
from recserver._internal.storage.transaction import Transaction


class VersionStore:
    """The versions of the models of one data folder."""

    def __init__(self, models: ModelStore) -> None:
        self._models = models
        self._files = VersionFiles(models)

    @property
    def locks(self) -> ModelLocks:
        """The locks of the models, which are those of the model store."""
        return self._models.locks

    async def read_all(self, model_id: str) -> list[Version]:
        """A model's versions, newest first, including damaged ones and the serving one."""
        return await asyncio.to_thread(self._files.read_all, model_id)

    async def serving_and_all(self, model_id: str) -> tuple[int, list[Version]]:
        """What :meth:`serving` and :meth:`read_all` return."""
        return await asyncio.to_thread(
            lambda: (self._files.serving_number(model_id), self._files.read_all(model_id))
        )

    async def find(self, model_id: str, number: int) -> Version:
        """One version.

        Raises:
            VersionNotFound: if it does not exist.
        """
        found = next((one for one in await self.read_all(model_id) if one.model_version == number), None)
        if found is None:
            raise VersionNotFound(model_id, number)
        return found

    def path(self, model_id: str, number: int) -> Path:
        """The path of a version's packed model."""
        return self._files.path(model_id, number)

    async def newest_and_highest(self, model_id: str) -> tuple[Version | None, int]:
        """The version that was trained last, whether it serves or not, and the :meth:`highest` number."""
        return await asyncio.to_thread(lambda: (self._files.newest(model_id), self._files.highest(model_id)))

    async def serving(self, model_id: str) -> int:
        """The number of the serving version, from the model's metadata, else its config; 0 if there is none."""
        return await asyncio.to_thread(self._files.serving_number, model_id)

    async def highest(self, model_id: str) -> int:
        """The highest version number that the model's files mention; 0 if none."""
        return await asyncio.to_thread(self._files.highest, model_id)

    @exclusive
    def publish(self, model_id: str, packed: Path, version: Version, change: ConfigChange) -> os.stat_result:
        """Make a new version the serving one: its files, the metadata and the config change together.

        Args:
            packed: a file in the folder of ``models/{id}.pkl``, which it replaces.

        Raises:
            ModelNotFound: if the model's config is missing.
            OSError: if it cannot be written; then nothing has changed.
        """
        file = packed.stat()
        with self._transaction(model_id) as transaction:
            self._store_serving_if_missing(transaction, model_id)
            self._stage_version(transaction, model_id, packed, version)
            transaction.move_into_place(packed, self._models.model_path(model_id))
            self._stage_metadata_and_config(transaction, model_id, version, change)
            transaction.commit()
        return file

    @exclusive
    def store_candidate(self, model_id: str, packed: Path, version: Version, change: ConfigChange) -> None:
        """Store a new version that does not serve, and change the config, both together."""
        with self._transaction(model_id) as transaction:
            self._stage_version(transaction, model_id, packed, version)
            transaction.write(*self._models.render_config(model_id, change))
            transaction.commit()

    @exclusive
    def activate(self, model_id: str, version: Version, change: ConfigChange) -> os.stat_result:
        """Make a stored version the serving one."""
        with self._transaction(model_id) as transaction:
            self._store_serving_if_missing(transaction, model_id)
            return self._commit_activation(transaction, model_id, version, change)

    @exclusive
    def replace_damaged(
        self,
        model_id: str,
        version: Version,
        damaged: os.stat_result | None,
        quarantine_name: str,
        drop: Collection[str] = (),
    ) -> os.stat_result:
        """Make a stored version the serving one, because the model's file is damaged or missing.

        Args:
            damaged: the status of that file; None if it is missing.
            quarantine_name: the name under which the damaged file stays in the folder.
            drop: keys to remove from the config.

        Raises:
            ModelChanged: if the file is another one by now.
        """
        with self._transaction(model_id) as transaction:
            now, change = self._models.file_stat(model_id), ConfigChange(drop=drop)
            if (now and files.file_stamp(now)) != (damaged and files.file_stamp(damaged)):
                raise ModelChanged(model_id)
            if damaged is not None:
                transaction.link(self._models.model_path(model_id), self._models.folder / quarantine_name)
                change = replace(change, values={"quarantined": quarantine_name})
            return self._commit_activation(transaction, model_id, version, change)

    @exclusive
    def store_serving(self, model_id: str, packed: Path, version: Version) -> None:
        """Store a model file that was never published as a version, and record that it serves."""
        with self._transaction(model_id) as transaction:
            self._stage_version(transaction, model_id, packed, version)
            self._stage_metadata_and_config(transaction, model_id, version, ConfigChange())
            transaction.commit()

    @exclusive
    def update(self, model_id: str, version: Version) -> None:
        """Rewrite the record of a version, and its pin also in the model's config, where no record can lose it."""
        number = version.model_version
        with self._transaction(model_id) as transaction:
            pins = {one.model_version for one in self._files.read_all(model_id) if one.pinned} - {number}
            pins |= {number} if version.pinned else set()
            change = ConfigChange(values={PINNED_KEY: sorted(pins)}) if pins else ConfigChange(drop=(PINNED_KEY,))
            self._store_serving_if_missing(transaction, model_id)
            if not version.unrecorded:
                self._stage_record(transaction, model_id, version)
            transaction.write(*self._models.render_config(model_id, change))
            transaction.commit()

    @exclusive
    def prune(self, model_id: str, keep: Collection[int]) -> None:
        """Remove all versions except those with the numbers ``keep``."""
        if not (surplus := [number for number in self._files.numbers(model_id) if number not in keep]):
            return
        with self._transaction(model_id) as transaction:
            for number in surplus:
                transaction.remove(self.path(model_id, number))
                transaction.remove(self._files.record_path(model_id, number))
            transaction.commit()

    def _transaction(self, model_id: str) -> Transaction:
        return Transaction(self._models.folder, model_id)

    def _store_serving_if_missing(self, transaction: Transaction, model_id: str) -> None:
        """Store the serving version under its number too, if it was trained before versions were stored."""
        serving = self._files.serving(model_id)
        if serving and not self.path(model_id, serving.model_version).exists():
            self._stage_version(transaction, model_id, self._models.model_path(model_id), serving)

    def _commit_activation(
        self, transaction: Transaction, model_id: str, version: Version, change: ConfigChange
    ) -> os.stat_result:
        source = self.path(model_id, version.model_version)
        file = source.stat()
        transaction.link(source, self._models.model_path(model_id))
        self._stage_record(transaction, model_id, version)
        self._stage_metadata_and_config(transaction, model_id, version, change)
        transaction.commit()
        return file

    def _stage_version(self, transaction: Transaction, model_id: str, packed: Path, version: Version) -> None:
        files.disk.make_folder(self._models.versions_folder(model_id))
        transaction.link(packed, self.path(model_id, version.model_version))
        self._stage_record(transaction, model_id, version)

    def _stage_record(self, transaction: Transaction, model_id: str, version: Version) -> None:
        path = self._files.record_path(model_id, version.model_version)
        transaction.write(path, files.json_bytes(version.model_dump()))

    def _stage_metadata_and_config(
        self, transaction: Transaction, model_id: str, version: Version, change: ConfigChange
    ) -> None:
        """Stage the metadata and the config of a model in which ``version`` serves."""
        transaction.write(self._models.path(model_id, METADATA_SUFFIX), files.json_bytes(version.metadata))
        change = replace(change, values={**version.config, **change.values})
        transaction.write(*self._models.render_config(model_id, change))
