"""Import of a valid model file that was put in place by hand: it is stored as a version before it is replaced."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from pathlib import Path

from recserver._internal.core.clock import timestamp
from recserver._internal.core.errors import UnreadableModel
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.registry.version_files import Version, model_counts, new_version
from recserver._internal.registry.version_integrity import file_sha256
from recserver._internal.registry.version_store import VersionStore
from recserver._internal.storage.atomic_files import remove_files, temporary_path, to_thread_shielded
from recserver._internal.storage.model_file import Artifact, PackedFile, pack
from recserver._internal.storage.model_file.version_numbers import next_version

logger = logging.getLogger(__name__)


async def import_external_file(
    models: ModelStore, store: VersionStore, model_id: str, now: datetime, reserved: int = 0
) -> int | None:
    """Store the model's file as a version, if it is valid and was never published; returns its number.

    The version number in the file is used if it is free and either the highest or that of the serving version;
    otherwise the next number.

    Args:
        reserved: a number that another version is about to get.

    Raises:
        OSError: if it cannot be stored.
    """
    path = models.model_path(model_id)
    serving, versions = await store.serving_and_all(model_id)
    if await asyncio.to_thread(_is_stored_version, path, store.path(model_id, serving)):
        return None
    try:
        packed, _ = await asyncio.to_thread(load_model, path)
    except (UnreadableModel, OSError) as error:
        logger.info("the file of model %s is not imported: %s", model_id, error)
        return None
    known = next((one for one in versions if one.metadata.get("sha256") == packed.sha256), None)
    if known is not None:
        await _restore_version_file(store, model_id, path, known)
        return None
    if packed.sha256 == (await asyncio.to_thread(models.metadata, model_id)).get("sha256"):
        return None
    highest, number = await store.highest(model_id), int(packed.header["model_version"])
    is_free = number not in {reserved, *(one.model_version for one in versions)} and next_version(number) > number
    if not (is_free and (number > highest or number == serving)):
        number = next_version(highest, reserved)
    await _store_imported(models, store, model_id, packed, number=number, now=timestamp(now))
    return number


def _is_stored_version(path: Path, version: Path) -> bool:
    """Whether a model's file is missing, or has a second name as a version."""
    if not path.is_file():
        return True
    try:
        return path.samefile(version)
    except FileNotFoundError:
        return False


async def _restore_version_file(store: VersionStore, model_id: str, path: Path, version: Version) -> None:
    """Store the file of a known version again, if the stored one is damaged or missing."""
    stored = store.path(model_id, version.model_version)
    try:
        is_intact = await asyncio.to_thread(file_sha256, stored) == version.metadata["sha256"]
    except OSError:
        is_intact = False
    if not is_intact:
        await store.store_serving(model_id, path, version)


async def _store_imported(
    models: ModelStore, store: VersionStore, model_id: str, packed: Artifact, *, number: int, now: str
) -> None:
    path, file = models.model_path(model_id), PackedFile(packed.size, packed.sha256)
    out = temporary_path(path)
    try:
        if number != packed.header["model_version"]:  # each response contains the version
            header = packed.header | {"model_version": number}
            path, file = out, await asyncio.to_thread(pack, out, header, packed.arrays)
        metrics = model_counts(packed.arrays)
        version = new_version(model_id, number, now, file, metrics=metrics, metadata={"by_hand": True})
        await store.store_serving(model_id, path, version)
    finally:
        await to_thread_shielded(remove_files, [out])
