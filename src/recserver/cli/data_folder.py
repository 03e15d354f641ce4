"""What commands find in a data folder, without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from recserver.core.errors import InvalidInput, quoted
from recserver.registry.model_store import ModelStore

if TYPE_CHECKING:
    from recserver.recommend.model.recommender import Recommender
    from recserver.storage.model_file import Artifact


def require_folder(data: Path) -> Path:
    """The data folder as an absolute path.

    Raises:
        InvalidInput: if it is not there.
    """
    folder = data.resolve()
    if not folder.is_dir():
        raise InvalidInput(f"There is no folder {data}: name the data folder with --data.")
    return folder


def open_store(data: Path) -> ModelStore:
    """The models of a data folder.

    Raises:
        InvalidInput: if it is not there.
    """
    return ModelStore(require_folder(data) / "models")


def find_model_file(data: Path, model_id: str | None) -> tuple[str, Path]:
    """A model, and where its packed version lies.

    Args:
        model_id: None for the only one there is.

    Raises:
        InvalidInput: if there is no such model, or nothing of it that was trained.
    """
    store = open_store(data)
    known = asyncio.run(store.ids())
    there = ", ".join(map(quoted, known)) or "none"
    if model_id is None and len(known) != 1:
        raise InvalidInput(f"Which model is not said: name one with --model; there are: {there}.")
    model_id = known[0] if model_id is None else model_id
    if model_id not in known:
        raise InvalidInput(f"There is no model {quoted(model_id)} in {data}; there are: {there}.")
    path = store.load_path(model_id)
    if not path.exists():
        raise _never_trained(model_id)
    return model_id, path


def open_model(data: Path, model_id: str | None) -> tuple[str, Artifact, Recommender]:
    """A model of :func:`packed_of`, opened.

    Raises:
        InvalidInput, UnreadableModel: if that cannot be.
    """
    from recserver.recommend.model.loading import load_model

    model_id, path = find_model_file(data, model_id)
    try:
        return model_id, *load_model(path)
    except FileNotFoundError:  # it was deleted meanwhile
        raise _never_trained(model_id) from None


def _never_trained(model_id: str) -> InvalidInput:
    return InvalidInput(f"Model {quoted(model_id)} was never trained: train it first.")
