"""``recserver models``: trained models looked at, and taken to and from other tools, without a server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from recserver.cli.output import WrongOption, cell, console, failing_quietly, print_json
from recserver.errors import InvalidInput, ModelBusy, ModelExists, shown
from recserver.specs.models import ModelStatus
from recserver.store.models import ModelStore, StoredModel

if TYPE_CHECKING:
    from recserver.cli.exchange import Parts

HEADS = "id", "algorithm", "status", "version", "trained", "users", "items", "MB"


def list_models(data: Path, *, as_json: bool) -> None:
    """Show every model of the folder ``data`` as its files describe it."""
    with failing_quietly():
        models = asyncio.run(_store(data).all())
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
        from recserver.catalog import open_packed
        from recserver.cli.exchange import parts_of, write

        store = _store(data)
        known = asyncio.run(store.ids())
        if model_id not in known:
            there = ", ".join(map(shown, known)) or "none"
            raise InvalidInput(f"There is no model {shown(model_id)} in {data}; there are: {there}.")
        try:
            packed, recommender = open_packed(store.pickle(model_id))
        except FileNotFoundError:
            raise InvalidInput(f"Model {shown(model_id)} was never trained: train it first.") from None
        target = output or Path(f"{model_id}.{kind}")
        if os.path.lexists(target) and not overwrite:
            raise InvalidInput(f"{shown(target)} exists: name another file with --output, or add --overwrite.")
        write(target, parts_of(packed), kind)
        told = f"Version {recommender.model_version} of model {model_id} is in {target}."
        console.print(told, markup=False)


def import_model(data: Path, source: Path, model_id: str, *, kind: str | None, name: str, overwrite: bool) -> None:
    """Make the model ``model_id`` of a file that another tool wrote, or that was exported."""
    with failing_quietly():
        from recserver.cli.exchange import packed_arrays, read
        from recserver.specs.values import check_new_model_id

        try:
            check_new_model_id(model_id)
        except ValueError as error:
            raise WrongOption(f"The model id {shown(model_id)} {error}.") from None
        store = _store(data)
        parts = packed_arrays(read(source, kind or source.suffix[1:].lower()))
        version = asyncio.run(_publish(store, model_id, parts, name, overwrite=overwrite))
        console.print(f"Version {version} of model {model_id} is in {data}.", markup=False)


def _store(data: Path) -> ModelStore:
    folder = data.resolve()
    if not folder.is_dir():
        raise InvalidInput(f"There is no folder {data}: name the data folder with --data.")
    return ModelStore(folder / "models")


def _row(model: StoredModel) -> tuple[Any, ...]:
    config = model.config
    metrics = config.get("model_metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    size = round(model.pickle.st_size / 2**20, 2) if model.pickle else None
    return (
        model.model_id, config["algorithm"], config["status"], config.get("model_version"),
        config.get("training_completed_at"), metrics.get("n_users"), metrics.get("n_items"), size,
    )  # fmt: skip


async def _publish(store: ModelStore, model_id: str, parts: Parts, name: str, *, overwrite: bool) -> int:
    """Put a model in place as a training does: a new one, or the next version of one that is there.

    The file goes through every check of loading under a hidden name first, so that nothing else is ever in place.
    """
    from recserver.catalog import open_packed
    from recserver.store.files import remove, temporary_beside
    from recserver.store.versions import Version, VersionStore
    from recserver.versions import SETTLED

    await asyncio.to_thread(store.folder.mkdir, parents=True, exist_ok=True)
    before = await _before(store, model_id, overwrite=overwrite)
    config = before.config if before else _config(model_id, name)
    versions = VersionStore(store)
    version = await versions.highest(model_id) + 1 if before else 1
    header = {
        "model_id": model_id, "model_version": version,
        "algorithm": str(config["algorithm"]), "model_type": str(config["model_type"]),
    }  # fmt: skip
    out = temporary_beside(store.pickle(model_id))
    try:
        packed = await asyncio.to_thread(_pack, out, header, parts)
        await asyncio.to_thread(open_packed, out)
        if not before:
            await store.create(model_id, config)
        told = _told(model_id, config, version, parts)
        for status in (ModelStatus.TRAINING, ModelStatus.VALIDATING):
            await store.move(model_id, status)
        saved_at, metadata = told["saved_at"], told | {"size": packed.size, "sha256": packed.sha256}
        in_config = {
            "training_completed_at": saved_at, "last_saved_at": saved_at,
            "model_version": version, "model_metrics": told["metrics"],
        }  # fmt: skip
        imported = Version(
            model_version=version, created_at=saved_at, metadata=metadata, config=in_config,
            served_before=await versions.serving(model_id) or None,
        )  # fmt: skip
        try:
            await versions.publish(model_id, out, imported, ModelStatus.COMPLETED, SETTLED)
        except OSError:
            await store.move(model_id, ModelStatus.FAILED, error="The import could not be saved.")
            raise
    finally:
        await remove([out])
    return version


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
    from recserver.clock import SystemClock, timestamp
    from recserver.plugins import algorithm
    from recserver.store.model_files import new_config

    method = algorithm(name)
    return new_config(model_id, name, method.model_type, method.default_params, timestamp(SystemClock().now()))


def _pack(out: Path, header: Mapping[str, Any], parts: Parts) -> Any:
    from recserver.artifact import pack

    try:
        return pack(out, header, parts)
    except OSError as error:
        raise InvalidInput(f"The model cannot be written ({error.strerror}): check {out.parent}.") from None


def _told(model_id: str, config: Mapping[str, Any], version: int, parts: Parts) -> dict[str, Any]:
    """The metadata of an imported version: what is known of one that was trained elsewhere."""
    from recserver.clock import SystemClock, timestamp
    from recserver.plugins import algorithm

    users, items, seen = (len(parts[one]) for one in ("user_factors", "item_counts", "seen_indices"))
    metrics = {
        "n_users": users, "n_items": items, "n_interactions": seen,
        "sparsity": 1 - seen / max(1, users * items), "n_components": parts["user_factors"].shape[1],
    }  # fmt: skip
    return {
        "model_id": model_id,
        "model_type": algorithm(config["algorithm"]).model_class,
        "saved_at": timestamp(SystemClock().now()),
        "file_path": f"models/{model_id}.pkl",
        "hyperparameters": config["hyperparameters"],
        "training_stats": {name: metrics[name] for name in ("n_users", "n_items", "n_interactions", "sparsity")},
        "metrics": metrics,
        "model_version": version,
        "imported": True,
    }
