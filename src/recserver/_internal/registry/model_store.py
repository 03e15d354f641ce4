"""``models/{id}.pkl``, ``{id}_config.json``, ``{id}_metadata.json``: the three files of a model."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import logging
import os
import re
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from os import stat_result
from pathlib import Path
from typing import Any

from recserver._internal.core.clock import timestamp
from recserver._internal.core.errors import InvalidInput, ModelNotFound
from recserver._internal.registry.model_config import (
    CONFIG_SUFFIX,
    LEGACY_SUFFIX,
    METADATA_SUFFIX,
    PICKLE_SUFFIX,
    ConfigChange,
    has_legacy_name,
    model_id_from,
    with_defaults,
)
from recserver._internal.registry.model_locks import ModelLocks, Moment, exclusive
from recserver._internal.registry.model_status import TRANSITIONS, ModelStatus
from recserver._internal.storage import atomic_files as files
from recserver._internal.storage.transaction import Transaction, complete, complete_all, pending_files, record_path

VERSIONS_FOLDER = ".versions"
QUARANTINE_SUFFIX = ".broken-"
"""Follows the name of a quarantined damaged file; the time follows it."""
_VERSION_FILE = re.compile(r"[0-9]+\.(pkl|json)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model as its files describe it.

    Attributes:
        config: its config, with defaults for the keys that every model has.
        file_stat: status of its ``.pkl``; None if there is no such regular file.
        unreadable_reason: why its config cannot be used, if so.
    """

    model_id: str
    config: dict[str, Any]
    file_stat: stat_result | None
    unreadable_reason: str | None = None

    @property
    def status(self) -> str:
        return str(self.config["status"])


class ModelStore:
    """The model files of one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.locks = ModelLocks()

    async def ids(self) -> list[str]:
        """The ids of all models: those with a config of the current or the legacy name."""
        names = await files.list_names(self.folder, ".json")
        return sorted({one for name in names if (one := model_id_from(name))})

    async def read(self, model_id: str) -> StoredModel:
        """One model, between two changes of it.

        Raises:
            ModelNotFound: if there is no such model.
        """
        return (await self.read_at(model_id))[0]

    async def read_at(self, model_id: str) -> tuple[StoredModel, Moment]:
        """What :meth:`read` returns, and the moment of reading."""
        async with self.locks.reading(model_id):
            moment = self.locks.moment()
            return await asyncio.to_thread(self._read, model_id), moment

    def _read(self, model_id: str, names: Container[str] | None = None) -> StoredModel:
        """A model as its files describe it at one moment, even if another process changes them meanwhile."""
        if not files.is_plain_name(model_id):
            raise ModelNotFound(model_id)
        paths = (
            record_path(self.folder, model_id),
            self.path(model_id, CONFIG_SUFFIX),
            self.path(model_id, PICKLE_SUFFIX),
        )
        return files.read_together(paths, lambda: self._read_once(model_id, names))

    def _read_once(self, model_id: str, names: Container[str] | None) -> StoredModel:
        unreadable = None
        try:
            path, raw = self._read_config(model_id, names)
        except FileNotFoundError:
            raise ModelNotFound(model_id) from None
        except InvalidInput as error:
            path, raw, unreadable = self.path(model_id, CONFIG_SUFFIX), {}, str(error)
        config = with_defaults(model_id, raw, _modified_at(path))
        if unreadable:
            config |= {"algorithm": "unknown", "status": ModelStatus.FAILED.value, "error": unreadable}
        return StoredModel(model_id, config, self.file_stat(model_id), unreadable)

    async def read_all(self, ids: Iterable[str] | None = None) -> list[StoredModel]:
        """Those models, or all, that still exist when they are read."""
        ids = await self.ids() if ids is None else ids
        return await asyncio.to_thread(self._read_all, ids) if ids else []

    def _read_all(self, model_ids: Iterable[str]) -> list[StoredModel]:
        found, names = [], frozenset(os.listdir(self.folder))  # noqa: PTH208 - the names alone
        for model_id in model_ids:
            with contextlib.suppress(ModelNotFound):
                found.append(self._read(model_id, names))
        return found

    async def file_stats(self) -> dict[str, stat_result | None]:
        """The status of every model's ``.pkl``, None where there is no such regular file."""
        ids = await self.ids()
        return await asyncio.to_thread(lambda: {one: self.file_stat(one) for one in ids})

    @exclusive
    def create(self, model_id: str, config: Mapping[str, Any]) -> None:
        """Write a new model's config, and remove the files that an earlier model of that id left."""
        config_path = self.path(model_id, CONFIG_SUFFIX)
        with Transaction(self.folder, model_id) as transaction:
            for path in self._all_paths(model_id):
                if path != config_path:
                    transaction.remove(path)
            transaction.write(config_path, files.json_bytes(dict(config)))
            transaction.commit()
        self._remove_folder(model_id)

    @exclusive
    def update_config(
        self, model_id: str, /, status: ModelStatus | None = None, *, drop: Collection[str] = (), **values: Any
    ) -> None:
        """Change keys of a model's config, as :class:`ConfigChange` describes.

        Raises:
            ModelNotFound: if its config is missing.
        """
        complete(record_path(self.folder, model_id))  # an unfinished transaction would overwrite this later
        files.write_atomic(*self.render_config(model_id, ConfigChange(status, drop, values)))

    def render_config(self, model_id: str, change: ConfigChange) -> tuple[Path, bytes]:
        """The path and the new content of a model's config; to be called while the model is locked.

        Raises:
            ModelNotFound: if its config is missing.
        """
        try:
            path, raw = self._read_config(model_id)
        except (FileNotFoundError, InvalidInput):
            raise ModelNotFound(model_id) from None
        raw.setdefault("created_at", _modified_at(path))  # else it would become the time of this write
        content = {key: value for key, value in raw.items() if key not in change.drop} | dict(change.values)
        if (status := change.status) is not None:
            before = raw.get("status", ModelStatus.INITIALIZING)
            if before in list(ModelStatus) and status not in TRANSITIONS[ModelStatus(before)]:
                logger.warning("model %s goes from %s to %s: was its config edited?", model_id, before, status)
            content["status"] = status.value
        return self.path(model_id, CONFIG_SUFFIX), files.json_bytes(content)

    def metadata(self, model_id: str) -> dict[str, Any]:
        """The metadata of the serving version; empty if it cannot be read. Blocking."""
        try:
            return files.read_object(self._current_path(model_id, METADATA_SUFFIX))
        except (FileNotFoundError, InvalidInput):
            return {}

    def config(self, model_id: str) -> dict[str, Any]:
        """A model's config as stored; empty if it cannot be read. Blocking."""
        try:
            return self._read_config(model_id)[1]
        except (FileNotFoundError, InvalidInput):
            return {}

    def file_stat(self, model_id: str) -> stat_result | None:
        """Status of the packed model; None if there is no such regular file. Blocking."""
        return files.regular_file_stat(self._current_path(model_id, PICKLE_SUFFIX))

    async def disk_use(self, model_id: str) -> int:
        """Total bytes of a model's files; a file with two names counts once."""

        def total() -> int:
            sizes: dict[int, int] = {}
            for path in self._all_paths(model_id):
                with contextlib.suppress(OSError):  # removed meanwhile
                    status = path.lstat()
                    sizes[status.st_ino] = status.st_size
            return sum(sizes.values())

        return await asyncio.to_thread(total)

    def files_of(self, model_id: str) -> list[str]:
        """All files of a model including its versions, relative to the data folder. Blocking."""
        return [path.relative_to(self.folder.parent).as_posix() for path in self._all_paths(model_id)]

    @exclusive
    def delete(self, model_id: str) -> list[str]:
        """Remove all files of a model or none, and return what :meth:`files_of` returned before."""
        names = self.files_of(model_id)
        with Transaction(self.folder, model_id) as transaction:
            for path in self._all_paths(model_id):
                transaction.remove(path)
            transaction.commit()
        self._remove_folder(model_id)
        return names

    def _remove_folder(self, model_id: str) -> None:
        with contextlib.suppress(OSError):  # not empty: it holds other files
            files.disk.remove_folder(self.versions_folder(model_id))
            files.disk.remove_folder(self.folder / VERSIONS_FOLDER)

    def recover(self) -> None:
        """Complete the transactions that a killed server had committed, and remove its other temporary files."""
        if complete_all(self.folder):  # otherwise some temporary files are still to be put in place
            for folder in (self.folder, *self.folder.glob(f"{VERSIONS_FOLDER}/*")):
                files.remove_temporaries(folder)

    def model_path(self, model_id: str) -> Path:
        """The path of the packed model."""
        return self.path(model_id, PICKLE_SUFFIX)

    def load_path(self, model_id: str) -> Path:
        """Where the packed model is now: an unfinished transaction may still have to put it in place."""
        return self._current_path(model_id, PICKLE_SUFFIX)

    def _read_config(self, model_id: str, names: Container[str] | None = None) -> tuple[Path, dict[str, Any]]:
        """The path and content of a model's config.

        Args:
            names: of the folder's files, if known.
        """
        if not files.is_plain_name(model_id):
            raise FileNotFoundError
        for ending in (CONFIG_SUFFIX, LEGACY_SUFFIX) if has_legacy_name(model_id) else (CONFIG_SUFFIX,):
            path = self.path(model_id, ending)
            if path.name in names if names is not None else files.exists_case_sensitive(path):
                return path, files.read_object(self._current_path(model_id, ending))
        raise FileNotFoundError

    def _all_paths(self, model_id: str) -> list[Path]:
        """All existing files of a model, its config first."""
        endings = (
            CONFIG_SUFFIX,
            METADATA_SUFFIX,
            PICKLE_SUFFIX,
            *((LEGACY_SUFFIX,) if has_legacy_name(model_id) else ()),
        )
        paths = [path for ending in endings if os.path.lexists(path := self.path(model_id, ending))]
        paths += sorted(self.folder.glob(f"{glob.escape(self.model_path(model_id).name)}{QUARANTINE_SUFFIX}*"))
        versions = self.versions_folder(model_id)
        return paths + sorted(path for path in versions.glob("*") if _VERSION_FILE.fullmatch(path.name))

    def versions_folder(self, model_id: str) -> Path:
        """The folder of a model's versions."""
        return self.folder / VERSIONS_FOLDER / model_id

    def _current_path(self, model_id: str, ending: str) -> Path:
        """Where the content of a file is: a committed transaction may still have to put it in place."""
        path = self.path(model_id, ending)
        return pending_files(record_path(self.folder, model_id)).get(path, path)

    def path(self, model_id: str, ending: str) -> Path:
        return self.folder / f"{model_id}{ending}"


def _modified_at(path: Path) -> str:
    status = files.regular_file_stat(path)
    return timestamp(datetime.fromtimestamp(status.st_mtime if status else 0, UTC))
