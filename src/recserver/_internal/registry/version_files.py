"""The files in ``models/.versions/{id}``: reading versions and detecting damaged ones. All methods block."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recserver._internal.core.errors import InvalidInput
from recserver._internal.core.validation.messages import first_error
from recserver._internal.registry.model_config import highest_version
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.storage import atomic_files as files
from recserver._internal.storage.model_file import Array, PackedFile
from recserver._internal.storage.model_file.version_numbers import MAX_VERSION, is_version, next_version

TRAINED_CONFIG_KEYS = (
    "training_completed_at",
    "last_saved_at",
    "model_version",
    "model_metrics",
    "final_stats",
    "training_warnings",
)
"""Keys of a model's config that a successful training sets."""

PINNED_KEY = "pinned_versions"
"""Key of a model's config: the pinned numbers, so that a damaged record cannot lose a pin."""

_NAME = re.compile(r"([1-9][0-9]{0,15})\.(?:pkl|json)")

logger = logging.getLogger(__name__)


class Version(BaseModel):
    """One version of a model, from its record."""

    model_config = ConfigDict(extra="allow")

    model_version: int = Field(ge=1, le=MAX_VERSION, strict=True)
    created_at: str
    metadata: dict[str, Any]
    """The content of the model's metadata file while it serves."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The keys of the model's config that its training set."""
    promoted: bool = True
    """Whether it has ever served."""
    pinned: bool = False
    """Whether it is never pruned, and keeps serving if it does."""
    served_before: int | None = None
    """The version that it replaced."""
    size: int = Field(default=0, exclude=True)
    """Bytes of its ``.pkl``."""
    damaged: str | None = Field(default=None, exclude=True)
    """Why it cannot serve, as half a sentence, as far as known without reading the whole file."""
    unrecorded: bool = Field(default=False, exclude=True)
    """Whether its record is missing or damaged, so that only its number is known."""


def model_counts(arrays: Mapping[str, Array]) -> dict[str, int]:
    """The sizes of a model, named as in its metrics."""
    return {
        "n_users": len(arrays["user_factors"]),
        "n_items": len(arrays["item_counts"]),
        "n_interactions": len(arrays["seen_indices"]),
        "n_components": arrays["user_factors"].shape[1],
    }


def new_version(
    model_id: str,
    number: int,
    now: str,
    file: PackedFile,
    *,
    metrics: Mapping[str, Any],
    metadata: Mapping[str, Any] = {},
    config: Mapping[str, Any] = {},
) -> Version:
    """A version with the metadata and config that all versions have, and more of each."""
    common = {
        "model_id": model_id,
        "saved_at": now,
        "file_path": f"models/{model_id}.pkl",
        "metrics": metrics,
        "model_version": number,
        "size": file.size,
        "sha256": file.sha256,
    }
    trained = {"last_saved_at": now, "model_version": number, "model_metrics": metrics}
    return Version(
        model_version=number, created_at=now, metadata={**common, **metadata}, config={**trained, **config}
    )


class VersionFiles:
    """The files of the versions of one data folder's models."""

    def __init__(self, models: ModelStore) -> None:
        self._models = models

    def path(self, model_id: str, number: int) -> Path:
        """The path of a version's packed model."""
        return self._models.versions_folder(model_id) / f"{number}.pkl"

    def record_path(self, model_id: str, number: int) -> Path:
        """The path of a version's record."""
        return self._models.versions_folder(model_id) / f"{number}.json"

    def read_all(self, model_id: str) -> list[Version]:
        """A model's versions, newest first, including damaged ones and the serving one."""
        serving = self.serving(model_id)
        found = {number: self._read(model_id, number, serving) for number in self.numbers(model_id)}
        if serving is not None:  # it may have been trained before versions were stored
            found.setdefault(serving.model_version, serving)
        pins = self.pins(model_id)
        for number in pins & found.keys():
            found[number] = found[number].model_copy(update={"pinned": True})
        return [found[number] for number in sorted(found, reverse=True)]

    def newest(self, model_id: str) -> Version | None:
        """The version that was trained last, if its record can be read."""
        numbers, serving = self.numbers(model_id), self.serving(model_id)
        found = self._read(model_id, max(numbers), serving) if numbers else serving
        return None if found is None or found.unrecorded else found

    def numbers(self, model_id: str) -> set[int]:
        """The numbers that have a packed model or a record."""
        try:
            names = os.listdir(self._models.versions_folder(model_id))  # noqa: PTH208 - the names alone
        except (FileNotFoundError, NotADirectoryError):
            return set()
        numbers = {int(found[1]) for name in names if (found := _NAME.fullmatch(name))}
        return {one for one in numbers if is_version(one)}

    def highest(self, model_id: str) -> int:
        """The highest trusted version number in the model's files; 0 if none."""
        recorded = map(highest_version, (self._models.config(model_id), self._models.metadata(model_id)))
        return next_version(*recorded, *self.numbers(model_id)) - 1

    def serving_number(self, model_id: str) -> int:
        """The number of the serving version, from the model's metadata, else its config; 0 if there is none."""
        metadata = self._models.metadata(model_id)
        return highest_version(metadata) or highest_version(self._models.config(model_id))

    def pins(self, model_id: str) -> set[int]:
        """The pinned numbers in the model's config; records of versions may have more."""
        pins = self._models.config(model_id).get(PINNED_KEY)
        return {one for one in pins if is_version(one)} if isinstance(pins, list) else set()

    def serving(self, model_id: str) -> Version | None:
        """The serving version, from the model's own files."""
        metadata, status = self._models.metadata(model_id), self._models.file_stat(model_id)
        number = highest_version(metadata)
        if not number or status is None:
            return None
        config = self._models.config(model_id)
        return Version(
            model_version=number,
            created_at=str(metadata.get("saved_at", "")),
            metadata=metadata,
            config={key: config[key] for key in TRAINED_CONFIG_KEYS if key in config},
            size=status.st_size,
        )

    def _read(self, model_id: str, number: int, serving: Version | None) -> Version:
        fallback = serving if serving is not None and serving.model_version == number else None
        version = self._read_record(model_id, number, fallback)
        try:
            return _with_file_stat(version, self.path(model_id, number).lstat())
        except OSError as error:
            if fallback is not None:
                return fallback
            missing = "missing" if isinstance(error, FileNotFoundError) else "out of reach"
            return version.model_copy(update={"damaged": f"its file {number}.pkl is {missing}"})

    def _read_record(self, model_id: str, number: int, fallback: Version | None) -> Version:
        """A version from its record, else ``fallback``, else one marked as damaged."""
        record = self.record_path(model_id, number)
        try:
            version = Version.model_validate(files.read_object(record))
            if version.model_version != number:
                raise InvalidInput(f"it is that of version {version.model_version}")
        except (OSError, InvalidInput, ValidationError) as error:
            why = first_error(error) if isinstance(error, ValidationError) else error
            logger.warning("version %d of model %s cannot be used: %s", number, model_id, why)
            damaged = f"its record {record.name} is missing or cannot be read"
            return fallback or Version(
                model_version=number, created_at="", metadata={}, promoted=False, damaged=damaged, unrecorded=True
            )
        return version


def _with_file_stat(version: Version, status: os.stat_result) -> Version:
    """``version`` with the size of its file, or the damage that its status shows."""
    recorded, damaged = version.metadata.get("size", status.st_size), version.damaged
    if not stat.S_ISREG(status.st_mode):
        return version.model_copy(update={"damaged": "its file is not a regular one"})
    if recorded != status.st_size:
        damaged = damaged or f"its file has {status.st_size} bytes instead of {recorded}"
    return version.model_copy(update={"size": status.st_size, "damaged": damaged})
