"""Publishes the arrays of an imported file as a version of a model, with the checks of a trained version."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.cli.model_formats import NamedArrays
from recserver._internal.core.clock import SystemClock, timestamp
from recserver._internal.core.errors import (
    DataFolderInUse,
    InvalidInput,
    ModelBusy,
    ModelExists,
    os_error_text,
    quoted,
)
from recserver._internal.core.events import EventBus
from recserver._internal.core.validation.values import same_id
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.registry.model_cache import ModelCache
from recserver._internal.registry.model_config import new_config
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.model_store import ModelStore, StoredModel
from recserver._internal.registry.version_files import Version, model_counts, new_version
from recserver._internal.registry.version_lifecycle import ModelVersions
from recserver._internal.registry.version_store import VersionStore
from recserver._internal.server.settings import load_settings
from recserver._internal.storage.atomic_files import remove_files, temporary_path, to_thread_shielded
from recserver._internal.storage.folder_lock import DataLock
from recserver._internal.storage.model_file import PackedFile, pack
from recserver._internal.storage.model_file.version_numbers import next_version


@contextmanager
def locked_for_writing(data: Path) -> Iterator[None]:
    """Hold the lock of the data folder, as a server that writes it does.

    Raises:
        InvalidInput: if a server holds the lock, which the message names, or the folder cannot be written.
    """
    lock = DataLock(data.resolve())
    try:
        lock.acquire()
    except DataFolderInUse as error:
        raise InvalidInput(
            f"The data folder {data} is in use by {error.holder}: stop that server, import, and start it again."
        ) from None
    except OSError as error:
        raise InvalidInput(
            f"The data folder cannot be locked ({os_error_text(error)}): check its permissions."
        ) from None
    try:
        yield
    except OSError as error:
        raise InvalidInput(
            f"The model could not be saved ({os_error_text(error)}): check the disk and its permissions."
        ) from None
    finally:
        lock.release()


async def publish(
    store: ModelStore,
    model_id: str,
    arrays: NamedArrays,
    algorithm_name: str,
    *,
    header: Mapping[str, Any],
    overwrite: bool,
) -> tuple[int, int | None]:
    """Publish a new model, or the next version of an existing one, as a training does.

    The file is loaded under a temporary name first, so that nothing unusable is ever published.

    Returns:
        The number of the version, and the pinned version that keeps serving instead, if there is one.
    """
    await asyncio.to_thread(store.folder.mkdir, parents=True, exist_ok=True)
    existing = await _existing_model(store, model_id, overwrite=overwrite)
    if existing:
        config = existing.config
    else:
        algorithm, now = load_algorithm(algorithm_name), timestamp(SystemClock().now())
        config = new_config(model_id, algorithm_name, algorithm.model_type, algorithm.default_params, now)
    version_store = VersionStore(store)
    versions = ModelVersions(
        models=store, version_store=version_store, model_cache=ModelCache(store, EventBus()), clock=SystemClock(),
        max_versions=load_settings().model_versions,
    )  # fmt: skip
    if existing:
        await versions.import_external_file(model_id)  # whose number may be the highest
    number = next_version(await version_store.highest(model_id) if existing else 0)
    header = {
        **header, "model_id": model_id, "model_version": number,
        "algorithm": str(config["algorithm"]), "model_type": str(config["model_type"]),
    }  # fmt: skip
    path = temporary_path(store.model_path(model_id))
    try:
        packed = await asyncio.to_thread(_pack, path, header, arrays)
        _, recommender = await asyncio.to_thread(load_model, path)
        if not existing:
            await store.create(model_id, config)
        for status in (ModelStatus.TRAINING, ModelStatus.VALIDATING):
            await store.update_config(model_id, status)
        version = _imported_version(model_id, config, number, arrays, packed)
        pinned = await versions.pinned_version(model_id)
        try:
            if pinned:
                await versions.store_candidate(model_id, path, version, ModelStatus.COMPLETED)
            else:
                await versions.publish(model_id, path, version, recommender)
        except OSError:
            await store.update_config(model_id, ModelStatus.FAILED, error="The import could not be saved.")
            raise
    finally:
        await to_thread_shielded(remove_files, [path])
    return number, pinned


async def _existing_model(store: ModelStore, model_id: str, *, overwrite: bool) -> StoredModel | None:
    """The model that gets a new version; None if it does not exist.

    Raises:
        ModelExists: if it exists and ``overwrite`` is False, or another id differs in case only.
    """
    existing = same_id(model_id, await store.ids())
    if existing is None:
        return None
    if existing != model_id or not overwrite:
        raise ModelExists(
            f"There is a model {quoted(existing)} already: choose another id"
            + (", or add --overwrite to make this its next version." if existing == model_id else ".")
        )
    model = await store.read(model_id)
    if model.unreadable_reason:
        raise InvalidInput(model.unreadable_reason)
    if ModelStatus(model.status).in_training:
        raise ModelBusy(f"Model {quoted(model_id)} is being trained: import when the training has ended.")
    return model


def _pack(path: Path, header: Mapping[str, Any], arrays: NamedArrays) -> PackedFile:
    try:
        return pack(path, header, arrays)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    except OSError as error:
        raise InvalidInput(f"The model cannot be written ({error.strerror}): check {path.parent}.") from None


def _imported_version(
    model_id: str, config: Mapping[str, Any], number: int, arrays: NamedArrays, packed: PackedFile
) -> Version:
    """Metadata and config of a version that was trained elsewhere."""
    now = timestamp(SystemClock().now())
    counts = model_counts(arrays)
    sparsity = 1 - counts["n_interactions"] / max(1, counts["n_users"] * counts["n_items"])
    metrics = {**counts, "sparsity": sparsity}
    metadata = {
        "model_type": load_algorithm(config["algorithm"]).model_class,
        "hyperparameters": config["hyperparameters"],
        "training_stats": {name: metrics[name] for name in metrics if name != "n_components"},
        "imported": True,
    }
    changes = {"training_completed_at": now}
    return new_version(model_id, number, now, packed, metrics=metrics, metadata=metadata, config=changes)
