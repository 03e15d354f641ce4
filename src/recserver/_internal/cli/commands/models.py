"""``recserver models``: list trained models, and exchange them with other tools, without a server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.table import Table
from typer import Argument, Option

from recserver._internal.cli.command import AsJson, ExistingFolder, command, new_app, usage_error_from
from recserver._internal.cli.commands import model_requests
from recserver._internal.cli.data_folder import open_model, open_store
from recserver._internal.cli.extension_arrays import unpack_extras
from recserver._internal.cli.model_formats import export_arrays, import_arrays, read, write
from recserver._internal.cli.model_import import locked_for_writing, publish
from recserver._internal.cli.output import cell, console, print_json, print_line
from recserver._internal.core.errors import InvalidInput, quoted
from recserver._internal.core.validation.values import check_new_model_id
from recserver._internal.registry.model_store import StoredModel

EXTRAS_DROPPED = (
    "Users, items, their factors or the seen items have changed since the export, so the rest of the file is not "
    "imported: fold-in, item attributes and recent popularity."
)

HEADERS = "id", "algorithm", "status", "version", "trained", "users", "items", "MB"

Format = Literal["npz", "safetensors"]
ModelId = Annotated[str, Argument(metavar="ID", help="The model.")]

app = new_app(
    "models",
    "List, export and import the models of a data folder; create, delete and roll back those of a running server.",
)
model_requests.add_commands(app)


@command(app, "list")
def list_models(data: ExistingFolder = Path("data"), as_json: AsJson = False) -> None:
    """Show all models of a data folder."""
    models = asyncio.run(open_store(data).read_all())
    if as_json:
        print_json(
            {model.model_id: model.config | {"model_file_exists": bool(model.file_stat)} for model in models}
        )
    elif not models:
        print_line(f"There are no models in {data}.")
    else:
        table = Table(*HEADERS)
        for model in models:
            table.add_row(*map(cell, _row(model)))
        console.print(table)


@command(app, "export")
def export_model(
    model_id: ModelId,
    data: ExistingFolder = Path("data"),
    output: Annotated[Path | None, Option(help="The file to write; ID.FORMAT by default.")] = None,
    file_format: Annotated[Format, Option("--format", help="The format of the file.")] = "npz",
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write the serving version as arrays that numpy, PyTorch and others can read."""
    _, artifact, recommender = open_model(data, model_id)
    target = output or Path(f"{model_id}.{file_format}")
    if os.path.lexists(target) and not overwrite:
        raise InvalidInput(f"{quoted(target)} exists: name another file with --output, or add --overwrite.")
    write(target, export_arrays(artifact), file_format)
    print_line(f"Wrote version {recommender.model_version} of model {model_id} to {target}.")


@command(app, "import")
def import_model(
    source: Annotated[Path, Argument(metavar="FILE", help="A file of factors and ids.")],
    model_id: ModelId,
    *,
    data: ExistingFolder = Path("data"),
    file_format: Annotated[
        Format | None, Option("--format", help="The format of the file; by default that of its extension.")
    ] = None,
    algorithm: Annotated[str, Option(help="Algorithm of the next training of a new model.")] = "nmf",
    overwrite: Annotated[
        bool, Option("--overwrite", help="Make it the next version of an existing model.")
    ] = False,
) -> None:
    """Create a model, or with --overwrite the next version of a model, from factors and ids.

    Stop a server that writes the folder first; a read-only server picks the import up by itself.
    """
    with usage_error_from(ValueError, f"The model id {quoted(model_id)} {{}}."):
        check_new_model_id(model_id)
    store = open_store(data)
    imported = read(source, file_format or source.suffix[1:].lower())
    extras = unpack_extras(imported)
    header, extra_arrays = extras or ({}, {})
    arrays = extra_arrays | import_arrays(imported)
    with locked_for_writing(data):
        version, pinned = asyncio.run(
            publish(store, model_id, arrays, algorithm, header=header, overwrite=overwrite)
        )
    if extras is None:
        print_line(EXTRAS_DROPPED)
    not_promoted = f", but is not promoted: version {pinned} is pinned" if pinned else ""
    print_line(f"Imported version {version} of model {model_id} into {data}{not_promoted}.")


def _row(model: StoredModel) -> tuple[Any, ...]:
    config = model.config
    metrics = config.get("model_metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    size = round(model.file_stat.st_size / 2**20, 2) if model.file_stat else None
    return (
        model.model_id, config["algorithm"], config["status"], config.get("model_version"),
        config.get("training_completed_at"), metrics.get("n_users"), metrics.get("n_items"), size,
    )  # fmt: skip
