"""Access to the models of a data folder, without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from recserver._internal.core.errors import InvalidInput, quoted
from recserver._internal.registry.model_store import ModelStore

if TYPE_CHECKING:
    from recserver._internal.recommend.model.recommender import Recommender
    from recserver._internal.storage.model_file import Artifact


def require_folder(data: Path) -> Path:
    """The data folder as an absolute path.

    Raises:
        InvalidInput: if it does not exist.
    """
    folder = data.resolve()
    if not folder.is_dir():
        raise InvalidInput(f"There is no folder {data}: name the data folder with --data.")
    return folder


def open_store(data: Path) -> ModelStore:
    """The models of a data folder.

    Raises:
        InvalidInput: if the folder does not exist.
    """
    return ModelStore(require_folder(data) / "models")


def find_model_file(data: Path, model_id: str | None) -> tuple[str, Path]:
    """The id of a model, and the path of its serving version.

    Args:
        model_id: None for the only model there is.

    Raises:
        InvalidInput: if there is no such model, or it was never trained.
    """
    store = open_store(data)
    model_ids = asyncio.run(store.ids())
    listed = ", ".join(map(quoted, model_ids)) or "none"
    if model_id is None and len(model_ids) != 1:
        raise InvalidInput(f"No model given: use --model; there are: {listed}.")
    model_id = model_ids[0] if model_id is None else model_id
    if model_id not in model_ids:
        raise InvalidInput(f"There is no model {quoted(model_id)} in {data}; there are: {listed}.")
    path = store.load_path(model_id)
    if not path.exists():
        raise _never_trained(model_id)
    return model_id, path


def open_model(data: Path, model_id: str | None) -> tuple[str, Artifact, Recommender]:
    """The model of :func:`find_model_file`, loaded.

    Raises:
        InvalidInput: as :func:`find_model_file` does.
        UnreadableModel: if the file is damaged.
    """
    from recserver._internal.recommend.model.loading import load_model

    model_id, path = find_model_file(data, model_id)
    try:
        return model_id, *load_model(path)
    except FileNotFoundError:  # deleted since it was found
        raise _never_trained(model_id) from None


def _never_trained(model_id: str) -> InvalidInput:
    return InvalidInput(f"Model {quoted(model_id)} was never trained: train it first.")
