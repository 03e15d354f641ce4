"""Models in memory: loaded once when first asked for, replaced by assigning one reference."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass
from os import stat_result
from pathlib import Path

from recserver import artifact, snapshots
from recserver.errors import ModelNotFound, ModelNotTrained, ModelUnavailable, UnreadableModel, shown
from recserver.events import EventBus, ModelServes
from recserver.recommend.recommender import Recommender
from recserver.specs.models import ModelStatus
from recserver.store.models import ModelStore, StoredModel

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a file on disk does not serve; stands until the file changes."""

    stamp: Stamp
    reason: str


def open_packed(path: Path) -> tuple[artifact.Artifact, Recommender]:
    """The packed model in a file, with everything about it checked. Slow for large ones: not for the loop.

    A large one is a map of a private copy that was checked once and is shared by all processes of the machine.

    Raises:
        UnreadableModel: if it is damaged, foreign, or does not fit together. Nothing in it was executed.
    """
    if (snapshot := snapshots.find(path)) is not None:
        packed = artifact.parse(snapshot.content, path.name, sha256=snapshot.sha256)
        return packed, Recommender.from_artifact(packed)
    with snapshots.draft(path, artifact.LARGEST) as draft:
        packed = artifact.load(path) if draft is None else artifact.parse(draft.content, path.name)
        recommender = Recommender.from_artifact(packed)
        if draft is not None:
            draft.keep(packed.sha256)
    return packed, recommender


class Catalog:
    """The models that answer."""

    def __init__(self, models: ModelStore, events: EventBus) -> None:
        self._models = models
        self._events = events
        self._serving: dict[str, tuple[Recommender, Stamp]] = {}
        self._refused: dict[str, _Refusal] = {}
        self._folder: tuple[int, int] | None = None
        self._loading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def in_memory(self, model_id: str) -> Recommender | None:
        """The version that serves, if it is loaded. No disk, no lock: the path of every request."""
        entry = self._serving.get(model_id)
        return entry and entry[0]

    async def find(self, model_id: str) -> Recommender:
        """The version that serves, loaded if need be.

        Raises:
            ModelNotFound: if there is no such model.
            ModelNotTrained: if it has no version that could serve, with the reason of the last failure.
        """
        if serving := self.in_memory(model_id):
            return serving
        if model_id not in await self._models.ids():  # before a lock is made for it
            raise ModelNotFound(model_id)
        async with self._loading[model_id]:  # one load, however many ask
            if serving := self.in_memory(model_id):
                return serving
            model = await self._models.read(model_id)
            reason = await self._load(model)
        if reason is None and (serving := self.in_memory(model_id)):
            return serving
        raise ModelNotTrained(reason or f"Model {shown(model_id)} was removed meanwhile.")

    async def needs_training(self, model: StoredModel) -> str | None:
        """Why no version of the model can serve; None if one can."""
        if self.in_memory(model.model_id):
            return None
        async with self._loading[model.model_id]:
            return None if self.in_memory(model.model_id) else await self._load(model)

    def swap(self, model_id: str, recommender: Recommender, file: stat_result) -> None:
        """Let a new version answer from now on. Requests under way end with the one they began with."""
        _, before = self._serving.get(model_id, (None, None))
        self._serving[model_id] = recommender, _stamp(file)
        self._refused.pop(model_id, None)
        if before != _stamp(file):  # else whoever looked at the folder meanwhile has loaded it already
            self._events.publish(ModelServes(model_id, recommender.model_version))

    def drop(self, model_id: str) -> None:
        """Forget a model that was deleted."""
        self._serving.pop(model_id, None)
        self._refused.pop(model_id, None)

    async def look_again(self) -> None:
        """Take up files that were put in place of those in memory, and drop models that were removed by hand.

        A folder that is gone, or another one that is empty, is taken for one not mounted, and unloads nothing.
        """
        known = await self._models.pickles()
        folder = await self._models.identity()
        if not known and (folder is None or folder != self._folder):
            return
        self._folder = folder
        for model_id, (_, stamp) in list(self._serving.items()):
            file = known.get(model_id)
            if model_id not in known:
                self.drop(model_id)
            elif file is not None and _stamp(file) != stamp:
                await self._take_up(model_id)

    async def _take_up(self, model_id: str) -> None:
        async with self._loading[model_id]:
            with contextlib.suppress(ModelNotFound):  # it was deleted meanwhile, which the next look finds
                await self._load(await self._models.read(model_id))

    async def _load(self, model: StoredModel) -> str | None:
        """Load the model's file; if it cannot serve, the reason why, and what served before still does."""
        file = model.pickle
        while file is not None:
            stamp = _stamp(file)
            refusal = self._refused.get(model.model_id)
            if refusal is not None and refusal.stamp == stamp:
                return refusal.reason
            try:
                _, recommender = await asyncio.to_thread(open_packed, self._models.pickle(model.model_id))
            except (ModelUnavailable, OSError) as error:
                return str(error)  # not remembered: it may be read the next time
            except UnreadableModel as error:
                self._refused[model.model_id] = _Refusal(stamp, str(error))
                continue
            file = await self._models.pickle_status(model.model_id)
            if file is not None and _stamp(file) == stamp:  # else it was replaced or deleted meanwhile
                self.swap(model.model_id, recommender, file)
                return None
        return _untrained(model)


def _untrained(model: StoredModel) -> str:
    name = shown(model.model_id)
    if model.unreadable:
        return model.unreadable
    if error := model.config.get("error"):
        return f"Model {name} was never trained; its last training failed: {error}"
    if model.status == ModelStatus.COMPLETED:
        return f"The trained file of model {name} is missing: train the model again."
    if ModelStatus(model.status).in_training:
        return f"Model {name} is being trained for the first time: ask again when its status is completed."
    return f"Model {name} was never trained: add a task that trains it."


def _stamp(file: stat_result) -> Stamp:
    return file.st_mtime_ns, file.st_size, file.st_ino
