"""``recserver models``: trained models looked at, and taken to and from other tools, without a server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from recserver.cli.data_folder import opened_of, store_of
from recserver.cli.output import WrongOption, cell, console, failing_quietly, print_json
from recserver.core.errors import DataFolderInUse, InvalidInput, ModelBusy, ModelExists, reason_of, shown
from recserver.registry.model_status import ModelStatus
from recserver.registry.model_store import ModelStore, StoredModel
from recserver.storage.model_file.version_numbers import next_version

if TYPE_CHECKING:
    from recserver.cli.model_formats import Parts
    from recserver.registry.version_lifecycle import ModelVersions
    from recserver.registry.version_store import Version
    from recserver.storage.model_file import PackedFile

CHANGED = (
    "Users, items, their factors or what was seen are not as they were exported, so what else the file holds is "
    "left out: how users are folded in, attributes of items, and what was popular of late."
)

HEADS = "id", "algorithm", "status", "version", "trained", "users", "items", "MB"


def list_models(data: Path, *, as_json: bool) -> None:
    """Show every model of the folder ``data`` as its files describe it."""
    with failing_quietly():
        models = asyncio.run(store_of(data).all())
        if as_json:
            print_json(
                {model.model_id: model.config | {"model_file_exists": bool(model.pickle)} for model in models}
            )
        elif not models:
            console.print(f"There are no models in {data}.", markup=False)
        else:
            table = Table(*HEADS)
            for model in models:
                table.add_row(*map(cell, _row(model)))
            console.print(table)


def export_model(data: Path, model_id: str, *, output: Path | None, kind: str, overwrite: bool) -> None:
    """Write the trained version of a model as a file of ``kind``."""
    with failing_quietly():
        from recserver.cli.model_formats import parts_of, write

        _, packed, recommender = opened_of(data, model_id)
        target = output or Path(f"{model_id}.{kind}")
        if os.path.lexists(target) and not overwrite:
            raise InvalidInput(f"{shown(target)} exists: name another file with --output, or add --overwrite.")
        write(target, parts_of(packed), kind)
        told = f"Version {recommender.model_version} of model {model_id} is in {target}."
        console.print(told, markup=False)


def import_model(data: Path, source: Path, model_id: str, *, kind: str | None, name: str, overwrite: bool) -> None:
    """Make the model ``model_id`` of a file that another tool wrote, or that was exported."""
    with failing_quietly():
        from recserver.cli.model_extras import brought_back
        from recserver.cli.model_formats import packed_arrays, read
        from recserver.core.validation.values import check_new_model_id

        try:
            check_new_model_id(model_id)
        except ValueError as error:
            raise WrongOption(f"The model id {shown(model_id)} {error}.") from None
        store = store_of(data)
        found = read(source, kind or source.suffix[1:].lower())
        back = brought_back(found)
        header, more = back or ({}, {})
        parts = more | packed_arrays(found)
        with _writing(data):
            placing = _publish(store, model_id, parts, name, header=header, overwrite=overwrite)
            version, pinned = asyncio.run(placing)
        if back is None:
            console.print(CHANGED, markup=False)
        but = f" and does not serve: version {pinned} is pinned" if pinned else ""
        console.print(f"Version {version} of model {model_id} is in {data}{but}.", markup=False)


@contextmanager
def _writing(data: Path) -> Iterator[None]:
    """Have the data folder for oneself, as a server has.

    Raises:
        InvalidInput: if a server has it, naming that.
    """
    from recserver.storage.folder_lock import DataLock

    lock = DataLock(data.resolve())
    try:
        lock.take()
    except DataFolderInUse as error:
        raise InvalidInput(
            f"The data folder {data} is in use by {error.holder}: stop that server, import, and start it again."
        ) from None
    except OSError as error:
        raise InvalidInput(
            f"The data folder cannot be locked ({reason_of(error)}): check its permissions."
        ) from None
    try:
        yield
    except OSError as error:
        raise InvalidInput(
            f"The model could not be saved ({reason_of(error)}): check the disk and its permissions."
        ) from None
    finally:
        lock.release()


def _row(model: StoredModel) -> tuple[Any, ...]:
    config = model.config
    metrics = config.get("model_metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    size = round(model.pickle.st_size / 2**20, 2) if model.pickle else None
    return (
        model.model_id, config["algorithm"], config["status"], config.get("model_version"),
        config.get("training_completed_at"), metrics.get("n_users"), metrics.get("n_items"), size,
    )  # fmt: skip


async def _publish(
    store: ModelStore, model_id: str, parts: Parts, name: str, *, header: Mapping[str, Any], overwrite: bool
) -> tuple[int, int | None]:
    """Put a model in place as a training does: a new one, or the next version of one that is there.

    The file goes through every check of loading under a hidden name first, so that nothing else is ever in place.

    Returns:
        The version, and the pinned one that serves in its place, if there is one.
    """
    from recserver.recommend.model.loading import open_packed
    from recserver.registry.version_store import VersionStore
    from recserver.storage.atomic_files import remove, temporary_beside

    await asyncio.to_thread(store.folder.mkdir, parents=True, exist_ok=True)
    before = await _before(store, model_id, overwrite=overwrite)
    config = before.config if before else _config(model_id, name)
    versions = _versions(store)
    if before:
        await versions.keep_stranger(model_id)  # whose number may be the highest
    number = next_version(await VersionStore(store).highest(model_id) if before else 0)
    about = {
        **header, "model_id": model_id, "model_version": number,
        "algorithm": str(config["algorithm"]), "model_type": str(config["model_type"]),
    }  # fmt: skip
    out = temporary_beside(store.pickle(model_id))
    try:
        packed = await asyncio.to_thread(_pack, out, about, parts)
        _, recommender = await asyncio.to_thread(open_packed, out)
        if not before:
            await store.create(model_id, config)
        for status in (ModelStatus.TRAINING, ModelStatus.VALIDATING):
            await store.move(model_id, status)
        imported = _version(model_id, config, number, parts, packed)
        if pinned := await versions.pinned(model_id):
            placing = versions.keep(model_id, out, imported, ModelStatus.COMPLETED)
        else:
            placing = versions.publish(model_id, out, imported, recommender)
        try:
            await placing
        except OSError:
            await store.move(model_id, ModelStatus.FAILED, error="The import could not be saved.")
            raise
    finally:
        await remove([out])
    return number, pinned


def _versions(store: ModelStore) -> ModelVersions:
    """What a server publishes with; it keeps as many versions as a server would."""
    from recserver.core.clock import SystemClock
    from recserver.core.events import EventBus
    from recserver.registry.model_cache import Catalog
    from recserver.registry.version_lifecycle import ModelVersions
    from recserver.registry.version_store import VersionStore
    from recserver.server.settings import load_settings

    return ModelVersions(
        models=store, store=VersionStore(store), catalog=Catalog(store, EventBus()), clock=SystemClock(),
        keep=load_settings().model_versions,
    )  # fmt: skip


async def _before(store: ModelStore, model_id: str, *, overwrite: bool) -> StoredModel | None:
    """The model of which the next version is to come, if there is one and that is allowed."""
    there = next((one for one in await store.ids() if one.casefold() == model_id.casefold()), None)
    if there is None:
        return None
    if there != model_id or not overwrite:
        raise ModelExists(
            f"There is a model {shown(there)} already: choose another id"
            + (", or add --overwrite to make this its next version." if there == model_id else ".")
        )
    model = await store.read(model_id)
    if model.unreadable:
        raise InvalidInput(model.unreadable)
    if ModelStatus(model.status).in_training:
        raise ModelBusy(f"Model {shown(model_id)} is being trained: import when that has ended.")
    return model


def _config(model_id: str, name: str) -> dict[str, Any]:
    """The config of a new model, whose next training would use the algorithm called ``name``."""
    from recserver.algorithms.lookup import algorithm
    from recserver.core.clock import SystemClock, timestamp
    from recserver.registry.model_config import new_config

    method = algorithm(name)
    return new_config(model_id, name, method.model_type, method.default_params, timestamp(SystemClock().now()))


def _pack(out: Path, header: Mapping[str, Any], parts: Parts) -> PackedFile:
    from recserver.storage.model_file import pack

    try:
        return pack(out, header, parts)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    except OSError as error:
        raise InvalidInput(f"The model cannot be written ({error.strerror}): check {out.parent}.") from None


def _version(model_id: str, config: Mapping[str, Any], number: int, parts: Parts, packed: PackedFile) -> Version:
    """What is known of a version that was trained elsewhere."""
    from recserver.algorithms.lookup import algorithm
    from recserver.core.clock import SystemClock, timestamp
    from recserver.registry.version_store import Version

    now = timestamp(SystemClock().now())
    users, items, seen = (len(parts[one]) for one in ("user_factors", "item_counts", "seen_indices"))
    metrics = {
        "n_users": users, "n_items": items, "n_interactions": seen,
        "sparsity": 1 - seen / max(1, users * items), "n_components": parts["user_factors"].shape[1],
    }  # fmt: skip
    metadata = {
        "model_id": model_id,
        "model_type": algorithm(config["algorithm"]).model_class,
        "saved_at": now,
        "file_path": f"models/{model_id}.pkl",
        "hyperparameters": config["hyperparameters"],
        "training_stats": {name: metrics[name] for name in ("n_users", "n_items", "n_interactions", "sparsity")},
        "metrics": metrics,
        "model_version": number,
        "imported": True,
        "size": packed.size,
        "sha256": packed.sha256,
    }
    told = {
        "training_completed_at": now, "last_saved_at": now,
        "model_version": number, "model_metrics": metrics,
    }  # fmt: skip
    return Version(model_version=number, created_at=now, metadata=metadata, config=told)
