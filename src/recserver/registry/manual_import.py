"""A valid model file that a person put in place: kept as a version before anything replaces it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from recserver.core.clock import timestamp
from recserver.core.errors import UnreadableModel
from recserver.recommend.model.loading import load_model
from recserver.registry.model_store import ModelStore
from recserver.registry.version_integrity import file_sha256
from recserver.registry.version_store import Version, VersionStore
from recserver.storage.atomic_files import remove_files, temporary_path
from recserver.storage.model_file import Artifact, PackedFile, pack
from recserver.storage.model_file.version_numbers import next_version

logger = logging.getLogger(__name__)


async def import_external_file(
    models: ModelStore, store: VersionStore, model_id: str, now: datetime, reserved: int = 0
) -> int | None:
    """Keep the model's file as a version, if it is a valid one that was never published; say under which number.

    It keeps the number that it bears if that is higher than all others, or told to serve; else it gets the next.

    Args:
        reserved: a number that another version is about to get.

    Raises:
        OSError: if it cannot be kept just now.
    """
    path = models.model_path(model_id)
    serving, versions = await store.serving(model_id), await store.read_all(model_id)
    if await asyncio.to_thread(_is_stored_version, path, store.path(model_id, serving)):
        return None
    try:
        packed, _ = await asyncio.to_thread(load_model, path)
    except (UnreadableModel, OSError) as error:  # no model, or nothing that anybody could read
        logger.info("the file of model %s is not kept: %s", model_id, error)
        return None
    known = next((one for one in versions if one.metadata.get("sha256") == packed.sha256), None)
    if known is not None:
        await _restore_version_file(store, model_id, path, known)
        return None
    if packed.sha256 == (await models.metadata(model_id)).get("sha256"):
        return None
    highest, borne = await store.highest(model_id), packed.header["model_version"]
    is_free = borne not in {reserved, *(one.model_version for one in versions)} and next_version(borne) > borne
    is_its_own = is_free and (borne > highest or borne == serving)
    number = borne if is_its_own else next_version(highest, reserved)
    await _store_imported(models, store, packed, _VersionFacts(model_id, number, timestamp(now)))
    return number


def _is_stored_version(path: Path, version: Path) -> bool:
    """Whether a model's file is missing, or has a second name as a version."""
    if not path.is_file():
        return True
    try:
        return path.samefile(version)
    except FileNotFoundError:
        return False


@dataclass(frozen=True, slots=True)
class _VersionFacts:
    """What is told of a version."""

    model_id: str
    number: int
    now: str


async def _restore_version_file(store: VersionStore, model_id: str, path: Path, version: Version) -> None:
    """Keep the file of a version that was published anew, if the kept one is damaged or missing."""
    kept = store.path(model_id, version.model_version)
    try:
        sound = await asyncio.to_thread(file_sha256, kept) == version.metadata["sha256"]
    except OSError:
        sound = False
    if not sound:
        await store.store_serving(model_id, path, version)


async def _store_imported(models: ModelStore, store: VersionStore, packed: Artifact, facts: _VersionFacts) -> None:
    path, file = models.model_path(facts.model_id), PackedFile(packed.size, packed.sha256)
    out = temporary_path(path)
    try:
        if facts.number != packed.header["model_version"]:  # each answer names its version
            header = packed.header | {"model_version": facts.number}
            path, file = out, await asyncio.to_thread(pack, out, header, packed.arrays)
        await store.store_serving(facts.model_id, path, _describe_version(packed, facts, file))
    finally:
        await remove_files([out])


def _describe_version(packed: Artifact, facts: _VersionFacts, file: PackedFile) -> Version:
    arrays, number, now = packed.arrays, facts.number, facts.now
    metrics: dict[str, Any] = {
        "n_users": len(arrays["user_factors"]),
        "n_items": len(arrays["item_counts"]),
        "n_interactions": len(arrays["seen_indices"]),
        "n_components": arrays["user_factors"].shape[1],
    }
    metadata = {
        "model_id": facts.model_id,
        "saved_at": now,
        "file_path": f"models/{facts.model_id}.pkl",
        "metrics": metrics,
        "model_version": number,
        "size": file.size,
        "sha256": file.sha256,
        "by_hand": True,
    }
    config = {"last_saved_at": now, "model_version": number, "model_metrics": metrics}
    return Version(model_version=number, created_at=now, metadata=metadata, config=config)
