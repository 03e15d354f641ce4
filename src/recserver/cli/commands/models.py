"""``recserver models``: trained models looked at, and taken to and from other tools, without a server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from recserver.cli.data_folder import open_model, open_store
from recserver.cli.output import UsageError, cell, console, exit_on_error, print_json
from recserver.core.errors import DataFolderInUse, InvalidInput, ModelBusy, ModelExists, os_error_text, quoted
from recserver.registry.model_status import ModelStatus
from recserver.registry.model_store import ModelStore, StoredModel
from recserver.storage.model_file.version_numbers import next_version

if TYPE_CHECKING:
    from recserver.cli.model_formats import NamedArrays
    from recserver.registry.version_lifecycle import ModelVersions
    from recserver.registry.version_store import Version
    from recserver.storage.model_file import PackedFile

EXTRAS_DROPPED = (
    "Users, items, their factors or what was seen are not as they were exported, so what else the file holds is "
    "left out: how users are folded in, attributes of items, and what was popular of late."
)

HEADERS = "id", "algorithm", "status", "version", "trained", "users", "items", "MB"


def list_models(data: Path, *, as_json: bool) -> None:
    """Show every model of the folder ``data`` as its files describe it."""
    with exit_on_error():
        models = asyncio.run(open_store(data).read_all())
        if as_json:
            print_json(
                {model.model_id: model.config | {"model_file_exists": bool(model.file_stat)} for model in models}
            )
        elif not models:
            console.print(f"There are no models in {data}.", markup=False)
        else:
            table = Table(*HEADERS)
            for model in models:
                table.add_row(*map(cell, _row(model)))
            console.print(table)


def export_model(data: Path, model_id: str, *, output: Path | None, kind: str, overwrite: bool) -> None:
    """Write the trained version of a model as a file of ``kind``."""
    with exit_on_error():
        from recserver.cli.model_formats import export_arrays, write

        _, packed, recommender = open_model(data, model_id)
        target = output or Path(f"{model_id}.{kind}")
        if os.path.lexists(target) and not overwrite:
            raise InvalidInput(f"{quoted(target)} exists: name another file with --output, or add --overwrite.")
        write(target, export_arrays(packed), kind)
        told = f"Version {recommender.model_version} of model {model_id} is in {target}."
        console.print(told, markup=False)


def import_model(
    data: Path, source: Path, model_id: str, *, kind: str | None, algorithm_name: str, overwrite: bool
) -> None:
    """Make the model ``model_id`` of a file that another tool wrote, or that was exported."""
    with exit_on_error():
        from recserver.cli.model_extras import unpack_extras
        from recserver.cli.model_formats import import_arrays, read
        from recserver.core.validation.values import check_new_model_id

        try:
            check_new_model_id(model_id)
        except ValueError as error:
            raise UsageError(f"The model id {quoted(model_id)} {error}.") from None
        store = open_store(data)
        found = read(source, kind or source.suffix[1:].lower())
        back = unpack_extras(found)
        header, more = back or ({}, {})
        parts = more | import_arrays(found)
        with _locked_for_writing(data):
            placing = _publish(store, model_id, parts, algorithm_name, header=header, overwrite=overwrite)
            version, pinned = asyncio.run(placing)
        if back is None:
            console.print(EXTRAS_DROPPED, markup=False)
        but = f" and does not serve: version {pinned} is pinned" if pinned else ""
        console.print(f"Version {version} of model {model_id} is in {data}{but}.", markup=False)


@contextmanager
def _locked_for_writing(data: Path) -> Iterator[None]:
    """Have the data folder for oneself, as a server has.

    Raises:
        InvalidInput: if a server has it, naming that.
    """
    from recserver.storage.folder_lock import DataLock

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


def _row(model: StoredModel) -> tuple[Any, ...]:
    config = model.config
    metrics = config.get("model_metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    size = round(model.file_stat.st_size / 2**20, 2) if model.file_stat else None
    return (
        model.model_id, config["algorithm"], config["status"], config.get("model_version"),
        config.get("training_completed_at"), metrics.get("n_users"), metrics.get("n_items"), size,
    )  # fmt: skip


async def _publish(
    store: ModelStore,
    model_id: str,
    arrays: NamedArrays,
    algorithm_name: str,
    *,
    header: Mapping[str, Any],
    overwrite: bool,
) -> tuple[int, int | None]:
    """Put a model in place as a training does: a new one, or the next version of one that is there.

    The file goes through every check of loading under a hidden name first, so that nothing else is ever in place.

    Returns:
        The version, and the pinned one that serves in its place, if there is one.
    """
    from recserver.recommend.model.loading import load_model
    from recserver.registry.version_store import VersionStore
    from recserver.storage.atomic_files import remove_files, temporary_path, to_thread_shielded

    await asyncio.to_thread(store.folder.mkdir, parents=True, exist_ok=True)
    before = await _existing_model(store, model_id, overwrite=overwrite)
    config = before.config if before else _new_config(model_id, algorithm_name)
    versions = _model_versions(store)
    if before:
        await versions.import_external_file(model_id)  # whose number may be the highest
    number = next_version(await VersionStore(store).highest(model_id) if before else 0)
    about = {
        **header, "model_id": model_id, "model_version": number,
        "algorithm": str(config["algorithm"]), "model_type": str(config["model_type"]),
    }  # fmt: skip
    out = temporary_path(store.model_path(model_id))
    try:
        packed = await asyncio.to_thread(_pack, out, about, arrays)
        _, recommender = await asyncio.to_thread(load_model, out)
        if not before:
            await store.create(model_id, config)
        for status in (ModelStatus.TRAINING, ModelStatus.VALIDATING):
            await store.update_config(model_id, status)
        imported = _imported_version(model_id, config, number, arrays, packed)
        if pinned := await versions.pinned_version(model_id):
            placing = versions.store_candidate(model_id, out, imported, ModelStatus.COMPLETED)
        else:
            placing = versions.publish(model_id, out, imported, recommender)
        try:
            await placing
        except OSError:
            await store.update_config(model_id, ModelStatus.FAILED, error="The import could not be saved.")
            raise
    finally:
        await to_thread_shielded(remove_files, [out])
    return number, pinned


def _model_versions(store: ModelStore) -> ModelVersions:
    """What a server publishes with; it keeps as many versions as a server would."""
    from recserver.core.clock import SystemClock
    from recserver.core.events import EventBus
    from recserver.registry.model_cache import ModelCache
    from recserver.registry.version_lifecycle import ModelVersions
    from recserver.registry.version_store import VersionStore
    from recserver.server.settings import load_settings

    return ModelVersions(
        models=store, version_store=VersionStore(store),
        model_cache=ModelCache(store, EventBus()), clock=SystemClock(),
        max_versions=load_settings().model_versions,
    )  # fmt: skip


async def _existing_model(store: ModelStore, model_id: str, *, overwrite: bool) -> StoredModel | None:
    """The model of which the next version is to come, if there is one and that is allowed."""
    there = next((one for one in await store.ids() if one.casefold() == model_id.casefold()), None)
    if there is None:
        return None
    if there != model_id or not overwrite:
        raise ModelExists(
            f"There is a model {quoted(there)} already: choose another id"
            + (", or add --overwrite to make this its next version." if there == model_id else ".")
        )
    model = await store.read(model_id)
    if model.unreadable_reason:
        raise InvalidInput(model.unreadable_reason)
    if ModelStatus(model.status).in_training:
        raise ModelBusy(f"Model {quoted(model_id)} is being trained: import when that has ended.")
    return model


def _new_config(model_id: str, algorithm_name: str) -> dict[str, Any]:
    """The config of a new model, whose next training would use the algorithm called ``name``."""
    from recserver.algorithms.lookup import load_algorithm
    from recserver.core.clock import SystemClock, timestamp
    from recserver.registry.model_config import new_config

    method = load_algorithm(algorithm_name)
    return new_config(
        model_id, algorithm_name, method.model_type, method.default_params, timestamp(SystemClock().now())
    )


def _pack(out: Path, header: Mapping[str, Any], arrays: NamedArrays) -> PackedFile:
    from recserver.storage.model_file import pack

    try:
        return pack(out, header, arrays)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    except OSError as error:
        raise InvalidInput(f"The model cannot be written ({error.strerror}): check {out.parent}.") from None


def _imported_version(
    model_id: str, config: Mapping[str, Any], number: int, arrays: NamedArrays, packed: PackedFile
) -> Version:
    """What is known of a version that was trained elsewhere."""
    from recserver.algorithms.lookup import load_algorithm
    from recserver.core.clock import SystemClock, timestamp
    from recserver.registry.version_files import model_counts, new_version

    counts = model_counts(arrays)
    sparsity = 1 - counts["n_interactions"] / max(1, counts["n_users"] * counts["n_items"])
    metrics = {**counts, "sparsity": sparsity}
    now = timestamp(SystemClock().now())
    return new_version(
        model_id,
        number,
        now,
        packed,
        metrics=metrics,
        metadata={
            "model_type": load_algorithm(config["algorithm"]).model_class,
            "hyperparameters": config["hyperparameters"],
            "training_stats": {name: metrics[name] for name in metrics if name != "n_components"},
            "imported": True,
        },
        config={"training_completed_at": now},
    )
