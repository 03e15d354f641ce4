"""What commands find in a data folder, without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from recserver.core.errors import InvalidInput, shown
from recserver.registry.model_store import ModelStore

if TYPE_CHECKING:
    from recserver.recommend.model.recommender import Recommender
    from recserver.storage.model_file import Artifact


def existing(data: Path) -> Path:
    """The data folder as an absolute path.

    Raises:
        InvalidInput: if it is not there.
    """
    folder = data.resolve()
    if not folder.is_dir():
        raise InvalidInput(f"There is no folder {data}: name the data folder with --data.")
    return folder


def store_of(data: Path) -> ModelStore:
    """The models of a data folder.

    Raises:
        InvalidInput: if it is not there.
    """
    return ModelStore(existing(data) / "models")


def packed_of(data: Path, model_id: str | None) -> tuple[str, Path]:
    """A model, and where its packed version lies.

    Args:
        model_id: None for the only one there is.

    Raises:
        InvalidInput: if there is no such model, or nothing of it that was trained.
    """
    store = store_of(data)
    known = asyncio.run(store.ids())
    there = ", ".join(map(shown, known)) or "none"
    if model_id is None and len(known) != 1:
        raise InvalidInput(f"Which model is not said: name one with --model; there are: {there}.")
    model_id = known[0] if model_id is None else model_id
    if model_id not in known:
        raise InvalidInput(f"There is no model {shown(model_id)} in {data}; there are: {there}.")
    path = store.to_load(model_id)
    if not path.exists():
        raise _untrained(model_id)
    return model_id, path


def opened_of(data: Path, model_id: str | None) -> tuple[str, Artifact, Recommender]:
    """A model of :func:`packed_of`, opened.

    Raises:
        InvalidInput, UnreadableModel: if that cannot be.
    """
    from recserver.recommend.model.loading import open_packed

    model_id, path = packed_of(data, model_id)
    try:
        return model_id, *open_packed(path)
    except FileNotFoundError:  # it was deleted meanwhile
        raise _untrained(model_id) from None


def _untrained(model_id: str) -> InvalidInput:
    return InvalidInput(f"Model {shown(model_id)} was never trained: train it first.")
