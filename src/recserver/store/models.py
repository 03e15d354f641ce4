"""``models/{id}.pkl``, ``{id}_config.json``, ``{id}_metadata.json``: the three files of a model."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from os import stat_result
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import aiofiles.os

from recserver.clock import timestamp
from recserver.errors import InvalidInput, ModelNotFound
from recserver.specs.models import TRANSITIONS, ModelStatus
from recserver.store import files

CONFIG, METADATA, PICKLE, LEGACY = "_config.json", "_metadata.json", ".pkl", ".json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model as its files describe it.

    Attributes:
        config: the keys of its config, those that every model has filled in where the file lacks them.
        pickle: status of its ``.pkl``, None if there is no such regular file.
        unreadable: why its config cannot be used, if so.
    """

    model_id: str
    config: dict[str, Any]
    pickle: stat_result | None
    unreadable: str | None = None

    @property
    def status(self) -> str:
        return str(self.config["status"])


class ModelStore:
    """The model files of one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def ids(self) -> list[str]:
        """The ids of all models: those with a config, of the present or the legacy name."""
        names = await files.names_in(self.folder, ".json")
        return sorted({one for name in names if (one := _id_of(name))})

    async def read(self, model_id: str) -> StoredModel:
        """One model, as it stands between two changes of it: none is under way when this returns.

        Raises:
            ModelNotFound: if no file bears that id.
        """
        async with self._lock(model_id):
            return await asyncio.to_thread(self._read, model_id)

    def _read(self, model_id: str, names: Container[str] | None = None) -> StoredModel:
        unreadable = None
        try:
            path, raw = self._read_config(model_id, names)
        except FileNotFoundError:
            raise ModelNotFound(model_id) from None
        except InvalidInput as error:
            path, raw, unreadable = self._path(model_id, CONFIG), {}, str(error)
        config = _completed(model_id, raw, _changed_at(path))
        if unreadable:
            config |= {"algorithm": "unknown", "status": ModelStatus.FAILED.value, "error": unreadable}
        return StoredModel(model_id, config, _regular(self.pickle(model_id)), unreadable)

    async def all(self) -> list[StoredModel]:
        """Every model that is still there when it is read."""
        ids = await self.ids()
        return await asyncio.to_thread(self._read_all, ids) if ids else []

    def _read_all(self, model_ids: Iterable[str]) -> list[StoredModel]:
        found, names = [], frozenset(os.listdir(self.folder))  # noqa: PTH208 - the names alone
        for model_id in model_ids:
            with contextlib.suppress(ModelNotFound):
                found.append(self._read(model_id, names))
        return found

    async def pickles(self) -> dict[str, stat_result | None]:
        """The status of every model's ``.pkl``, None where there is no such regular file."""
        ids = await self.ids()
        return await asyncio.to_thread(lambda: {one: _regular(self.pickle(one)) for one in ids})

    async def create(self, model_id: str, config: Mapping[str, Any]) -> None:
        """Write a new model's config. What an earlier model of that id left goes once that is done."""
        async with self._lock(model_id):
            await files.write_object(self._path(model_id, CONFIG), dict(config))
            await files.remove(self._all_paths(model_id)[1:])

    async def move(self, model_id: str, status: ModelStatus, *, drop: Iterable[str] = (), **changes: Any) -> None:
        """Change a model's status on disk, and other keys with it; all other keys survive.

        Raises:
            ModelNotFound: if its config is gone.
        """
        async with self._lock(model_id):
            await files.to_the_end(self._move, model_id, status, frozenset(drop), changes)

    def _move(self, model_id: str, status: ModelStatus, drop: frozenset[str], changes: Mapping[str, Any]) -> None:
        try:
            path, raw = self._read_config(model_id)
        except (FileNotFoundError, InvalidInput):
            raise ModelNotFound(model_id) from None
        raw.setdefault("created_at", _changed_at(path))  # which this write would change
        before = raw.get("status", ModelStatus.INITIALIZING)
        if before in list(ModelStatus) and status not in TRANSITIONS[ModelStatus(before)]:
            logger.warning("model %s goes from %s to %s: was its config edited?", model_id, before, status)
        kept = {key: value for key, value in raw.items() if key not in drop}
        changed = {**kept, **changes, "status": status.value}
        files.put_whole(self._path(model_id, CONFIG), files.as_json(changed))

    async def publish(self, model_id: str, packed: Path, metadata: Mapping[str, Any]) -> stat_result:
        """Put a packed model and its metadata in the place of the former ones."""
        async with self._lock(model_id):
            return await files.to_the_end(self._publish, model_id, packed, metadata)

    def _publish(self, model_id: str, packed: Path, metadata: Mapping[str, Any]) -> stat_result:
        status = packed.stat()
        files.put_in_place(packed, self.pickle(model_id))
        files.put_whole(self._path(model_id, METADATA), files.as_json(dict(metadata)))
        return status

    async def metadata(self, model_id: str) -> dict[str, Any]:
        """What was written with the last trained version; empty if there is nothing readable."""
        try:
            return await files.read_object(self._path(model_id, METADATA))
        except (FileNotFoundError, InvalidInput):
            return {}

    async def delete(self, model_id: str) -> list[str]:
        """Remove every file of a model and name them, relative to the data folder."""
        async with self._lock(model_id):
            paths = self._all_paths(model_id)
            removed = await files.remove(reversed(paths))  # the config last: until then it is still a model
        return [f"{self.folder.name}/{path.name}" for path in paths if path in removed]

    async def identity(self) -> tuple[int, int] | None:
        """Which folder the models lie in, by device and inode; None if it is gone."""
        try:
            status = await aiofiles.os.stat(self.folder)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    async def clear_temporaries(self) -> None:
        """Remove what a killed server left half written."""
        await files.clear_temporaries(self.folder)

    def pickle(self, model_id: str) -> Path:
        """Where the packed model lies."""
        return self._path(model_id, PICKLE)

    async def pickle_status(self, model_id: str) -> stat_result | None:
        """Status of the packed model; None if there is no such regular file."""
        return await asyncio.to_thread(_regular, self.pickle(model_id))

    def _read_config(self, model_id: str, names: Container[str] | None = None) -> tuple[Path, dict[str, Any]]:
        """The path and content of a model's config.

        Args:
            names: of the folder's files, if they are known.
        """
        for ending in (CONFIG, LEGACY) if _has_legacy_name(model_id) else (CONFIG,):
            path = self._path(model_id, ending)
            if path.name in names if names is not None else files.is_called_so(path):
                return path, files.object_in(path)
        raise FileNotFoundError

    def _lock(self, model_id: str) -> asyncio.Lock:
        """Held while a model is changed; it lives as long as somebody holds or awaits it."""
        return self._locks.setdefault(model_id, asyncio.Lock())

    def _all_paths(self, model_id: str) -> list[Path]:
        """Every file that is the model's, its config first."""
        endings = (CONFIG, METADATA, PICKLE, *((LEGACY,) if _has_legacy_name(model_id) else ()))
        return [self._path(model_id, ending) for ending in endings]

    def _path(self, model_id: str, ending: str) -> Path:
        return self.folder / f"{model_id}{ending}"


def highest_version(*contents: Mapping[str, Any]) -> int:
    """The highest version number that a model's config or metadata tell of; 0 if they tell of none."""
    numbers = [content.get("model_version") for content in contents]
    return max((one for one in numbers if isinstance(one, int) and one > 0), default=0)


def _id_of(name: str) -> str | None:
    """The id of the model whose config is called ``name``; None for a file that is no config."""
    stem = name.removesuffix(".json")
    if stem.endswith("_config"):
        return stem.removesuffix("_config") or None
    return None if stem.casefold().endswith(("_config", "_metadata")) else stem


def _has_legacy_name(model_id: str) -> bool:
    """Whether ``{id}.json`` would be this model's config: for the id ``a_config`` it is that of model ``a``."""
    return _id_of(f"{model_id}{LEGACY}") == model_id


def _completed(model_id: str, raw: dict[str, Any], created_at: str) -> dict[str, Any]:
    """``raw`` with the keys that every model has, first and filled in where they are missing."""

    def text(*names: str, default: str) -> str:
        return next((raw[name] for name in names if isinstance(raw.get(name), str) and raw[name]), default)

    algorithm = text("algorithm", "type", default="unknown")
    status = text("status", default=ModelStatus.INITIALIZING.value)
    hyperparameters = raw.get("hyperparameters")
    always = {
        "model_id": model_id,
        "model_name": text("model_name", default=model_id),
        "message": text("message", default=""),
        "algorithm": algorithm,
        "model_type": text("model_type", "type", default=algorithm),
        "hyperparameters": hyperparameters if isinstance(hyperparameters, dict) else {},
        "created_at": text("created_at", default=created_at),
        "status": status if status in list(ModelStatus) else ModelStatus.INITIALIZING.value,
        "model_path": f"models/{model_id}{PICKLE}",
    }
    return always | {key: value for key, value in raw.items() if key not in always}


def _changed_at(path: Path) -> str:
    status = _regular(path)
    return timestamp(datetime.fromtimestamp(status.st_mtime if status else 0, UTC))


def _regular(path: Path) -> stat_result | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None
