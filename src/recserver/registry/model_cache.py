"""Models in memory: loaded once when first asked for, replaced by assigning one reference."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from os import stat_result
from weakref import WeakValueDictionary

from recserver.core.errors import ModelNotFound, ModelNotTrained, ModelUnavailable, UnreadableModel, shown
from recserver.core.events import EventBus, ModelServes
from recserver.recommend.model.loading import open_packed
from recserver.recommend.model.recommender import Recommender
from recserver.registry.model_store import ModelStore, StoredModel
from recserver.registry.unavailable_reason import untrained, waits_for_the_disk
from recserver.storage import model_file as artifact
from recserver.storage.atomic_files import stamp_of

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a file on disk, or none if it is missing, does not serve; stands until that changes."""

    stamp: Stamp | None
    reason: str
    settled: bool
    """Whether nothing else can be put in its place either."""


@dataclass(frozen=True, slots=True)
class _Serving:
    """A version in memory, and the file it was made of."""

    recommender: Recommender
    stamp: Stamp

    @property
    def size(self) -> int:
        return self.stamp[1]


class Catalog:
    """The models that answer: as many as memory allows, those that were asked last."""

    def __init__(self, models: ModelStore, events: EventBus, memory: int | None = None) -> None:
        """
        Args:
            memory: bytes that the models in memory may have together; None sets no limit. One always fits.
        """
        self.on_damage: Callable[[str], Awaitable[bool]] | None = None
        """Told of a model whose file is damaged or missing; answers whether another is in its place, and serves.

        It raises OSError if that cannot be done now, but may be later.
        """
        self.on_change: Callable[[], None] | None = None
        """Told when another version serves than before, or a model does not any more."""
        self._models = models
        self._events = events
        self._memory = memory
        self._serving: OrderedDict[str, _Serving] = OrderedDict()  # least recently asked first
        self._taken = 0
        self._refused: dict[str, _Refusal] = {}
        self._announced: dict[str, Stamp] = {}
        self._looked_at: dict[str, Stamp] = {}
        self._folder: tuple[int, int] | None = None
        self._loading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def in_memory(self, model_id: str) -> Recommender | None:
        """The version that serves, if it is loaded. No disk, no lock: the path of every request."""
        if (entry := self._serving.get(model_id)) is None:
            return None
        self._serving.move_to_end(model_id)
        return entry.recommender

    def is_loaded(self, model_id: str) -> bool:
        """Whether the version that serves is in memory. Asking that does not keep it there."""
        return model_id in self._serving

    async def find(self, model_id: str) -> Recommender:
        """The version that serves, loaded if need be.

        Raises:
            ModelNotFound: if there is no such model.
            ModelNotTrained: if it has no version that could serve, with the reason of the last failure.
        """
        if serving := self.in_memory(model_id):
            return serving
        if model_id not in await self._models.ids():
            raise ModelNotFound(model_id)
        async with self._one_load(model_id):  # one load, however many ask
            if serving := self.in_memory(model_id):
                return serving
            model = await self._models.read(model_id)
            reason = await self._load(model)
        if serving := self.in_memory(model_id):  # it may have been published while a reason against it was found
            return serving
        raise ModelNotTrained(reason or f"Model {shown(model_id)} was removed meanwhile.")

    async def needs_training(self, model: StoredModel) -> str | None:
        """Why no version of the model can serve; None if one can.

        It is loaded to find out, unless others would have to make room: then only a look is taken at it.
        """
        if self.is_loaded(model.model_id):
            return None
        tight = model.pickle is not None and not self._has_room(model.pickle.st_size)
        if tight and await self.obstacle(model) is None:
            return None
        async with self._one_load(model.model_id):
            return None if self.is_loaded(model.model_id) else await self._load(model)

    async def obstacle(self, model: StoredModel) -> str | None:
        """Why no version of the model can serve, as far as that shows without loading it; None if nothing does.

        A file that was loaded or looked at before costs nothing. Of another the beginning and the end are read, so
        that damage in between shows only when it is first asked for.
        """
        if self.is_loaded(model.model_id):
            return None
        refusal = self._refusal(model.model_id, model.pickle)
        if model.pickle is None:
            return untrained(model, for_good=refusal is not None and refusal.settled)
        if refusal is not None:
            return refusal.reason
        stamp = stamp_of(model.pickle)
        if self._looked_at.get(model.model_id) != stamp:
            return await self._look(model, stamp)
        return None

    def refuses(self, model: StoredModel) -> bool:
        """Whether the model is known to have nothing that could serve, as long as its files stay what they are."""
        refusal = self._refusal(model.model_id, model.pickle)
        return refusal is not None and refusal.settled

    def _refusal(self, model_id: str, file: stat_result | None) -> _Refusal | None:
        """What is known against the file of a model, which has the status ``file``."""
        refusal = self._refused.get(model_id)
        return refusal if refusal is not None and refusal.stamp == (file and stamp_of(file)) else None

    def _one_load(self, model_id: str) -> asyncio.Lock:
        """Held while a model is loaded; it lives as long as somebody holds or awaits it."""
        return self._loading.setdefault(model_id, asyncio.Lock())

    async def _look(self, model: StoredModel, stamp: Stamp) -> str | None:
        try:
            await asyncio.to_thread(lambda: artifact.look(self._models.to_load(model.model_id)))
        except FileNotFoundError:
            return untrained(model)
        except (ModelUnavailable, OSError) as error:
            return str(error)  # not remembered: it may be read the next time
        except UnreadableModel as error:
            self._refused[model.model_id] = _Refusal(stamp, str(error), settled=self.on_damage is None)
            return str(error)
        self._looked_at[model.model_id] = stamp
        return None

    def swap(self, model_id: str, recommender: Recommender, file: stat_result) -> None:
        """Let a new version answer from now on. Requests under way end with the one they began with.

        Where memory is short, the models that were not asked for the longest time leave it.
        """
        stamp = stamp_of(file)
        self._let_go(model_id)
        self._serving[model_id] = _Serving(recommender, stamp)
        self._taken += stamp[1]
        self._refused.pop(model_id, None)
        self._looked_at[model_id] = stamp
        self._make_room(model_id)
        # Else it is the same version as before: loaded again, or found in the folder before it was swapped in.
        if self._announced.get(model_id) != stamp:
            self._announced[model_id] = stamp
            self._events.publish(ModelServes(model_id, recommender.model_version))
            self._changed()

    def drop(self, model_id: str) -> None:
        """Forget a model that was deleted."""
        self._let_go(model_id)
        for known in (self._refused, self._announced, self._looked_at):
            known.pop(model_id, None)
        self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def _has_room(self, size: int) -> bool:
        return self._memory is None or self._taken + size <= self._memory

    def _make_room(self, asked: str) -> None:
        """Let go of models until the rest fits, but not of the one ``asked`` for.

        A model whose file was put in its place and refused could not be loaded again: it serves on.
        """
        for model_id in list(self._serving) if not self._has_room(0) else ():
            if self._has_room(0):
                break
            if model_id != asked and model_id not in self._refused:
                self._let_go(model_id)

    def _let_go(self, model_id: str) -> None:
        """Take a version out of memory, if it is there."""
        gone = [self._serving.pop(model_id, None)]
        if gone[0] is not None:
            self._taken -= gone[0].size
            asyncio.get_running_loop().run_in_executor(None, gone.clear)  # large memory takes its time to return

    async def look_again(self) -> None:
        """Take up files that were put in place of those in memory, and drop models that were removed by hand.

        What is damaged or missing is replaced, if that can be done now. A folder that is gone, or another one that
        is empty, is taken for one not mounted, and unloads nothing.
        """
        known = await self._models.pickles()
        folder = await self._models.identity()
        if not known and (folder is None or folder != self._folder):
            return
        self._folder = folder
        for model_id in (self._announced.keys() | self._refused.keys()) - known.keys():
            self.drop(model_id)
        for model_id, file in known.items():
            if self._is_news(model_id, file):
                await self._take_up(model_id)

    def _is_news(self, model_id: str, file: stat_result | None) -> bool:
        """Whether there is something to do about the file of a model."""
        if (refusal := self._refusal(model_id, file)) is not None:
            return not refusal.settled
        if file is None:
            return self.on_damage is not None
        serving = self._serving.get(model_id)
        return serving is not None and serving.stamp != stamp_of(file)

    async def _take_up(self, model_id: str) -> None:
        async with self._one_load(model_id):
            with contextlib.suppress(ModelNotFound):  # it was deleted meanwhile, which the next look finds
                await self._load(await self._models.read(model_id))

    async def _load(self, model: StoredModel) -> str | None:
        """Load the model's file; if it cannot serve, the reason why, and what served before still does."""
        file = model.pickle
        while file is not None:
            stamp, refusal = stamp_of(file), self._refusal(model.model_id, file)
            if refusal is not None and refusal.settled:
                return refusal.reason
            try:
                recommender = await asyncio.to_thread(self._opened, model.model_id)
            except (ModelUnavailable, OSError) as error:
                return str(error)  # not remembered: it may be read the next time
            except UnreadableModel as error:
                return await self._mended(model.model_id, stamp, str(error))
            async with self._models.locks.reading(model.model_id):  # else a newer version could be swapped back
                file = await self._models.pickle_status(model.model_id)
                if file is not None and stamp_of(file) == stamp:  # else it was replaced or deleted meanwhile
                    self.swap(model.model_id, recommender, file)
                    return None
        return await self._mended(model.model_id, None, untrained(model, for_good=self.on_damage is not None))

    async def _mended(self, model_id: str, stamp: Stamp | None, reason: str) -> str | None:
        """Have a file replaced that is damaged, or missing; if that cannot be, the reason why nothing serves."""
        self._refused[model_id] = _Refusal(stamp, reason, settled=True)
        try:
            if self.on_damage is None or not await self.on_damage(model_id):
                return reason
        except OSError as error:
            reason = waits_for_the_disk(model_id, error)
            self._refused[model_id] = _Refusal(stamp, reason, settled=False)
            return reason
        return None

    def _opened(self, model_id: str) -> Recommender:
        return open_packed(self._models.to_load(model_id))[1]
