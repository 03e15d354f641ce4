"""The cache of models in memory: loaded on first use, replaced by assigning one reference."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from os import stat_result
from weakref import WeakValueDictionary

from recserver._internal.core.errors import (
    ModelNotFound,
    ModelNotTrained,
    ModelUnavailable,
    UnreadableModel,
    quoted,
)
from recserver._internal.core.events import EventBus, ModelServes
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.registry.model_store import ModelStore, StoredModel
from recserver._internal.registry.unavailable_reason import repair_pending_reason, unavailable_reason
from recserver._internal.storage import model_file as artifact
from recserver._internal.storage.atomic_files import Stamp, file_identity, file_stamp


@dataclass(frozen=True, slots=True)
class _Unavailable:
    """Why a file on disk, or a missing one, cannot serve; valid until the file changes."""

    stamp: Stamp | None
    reason: str
    final: bool
    """Whether no stored version can replace it."""


class ModelCache:
    """The loaded models: the most recently used ones, as many as fit in memory."""

    def __init__(self, models: ModelStore, events: EventBus, max_bytes: int | None = None) -> None:
        """
        Args:
            max_bytes: total size of the loaded models' files; None sets no limit. One model always fits.
        """
        self.on_damage: Callable[[str], Awaitable[bool]] | None = None
        """Called with the id of a model whose file is damaged or missing; returns whether it was repaired.

        It raises OSError if a retry may succeed.
        """
        self.on_change: Callable[[], object] = lambda: None
        """Called when another version serves than before, or a model was removed."""
        self._models = models
        self._events = events
        self._max_bytes = max_bytes
        self._loaded: OrderedDict[str, tuple[Recommender, Stamp]] = OrderedDict()  # least recently used first
        self._bytes_used = 0
        self._unavailable: dict[str, _Unavailable] = {}
        self._announced: dict[str, Stamp] = {}
        self._checked_stamps: dict[str, Stamp] = {}
        self._folder: tuple[int, int] | None = None
        self._load_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def get_loaded(self, model_id: str) -> Recommender | None:
        """The serving version, if it is loaded. Neither disk nor lock: every request takes this path."""
        if (entry := self._loaded.get(model_id)) is None:
            return None
        self._loaded.move_to_end(model_id)
        return entry[0]

    def is_loaded(self, model_id: str) -> bool:
        """Whether the serving version is in memory. This does not count as a use of it."""
        return model_id in self._loaded

    async def get_or_load(self, model_id: str) -> Recommender:
        """The serving version, loaded if necessary.

        Raises:
            ModelNotFound: if there is no such model.
            ModelNotTrained: if no version of it can serve, with the reason.
        """
        if serving := self.get_loaded(model_id):
            return serving
        if model_id not in await self._models.ids():
            raise ModelNotFound(model_id)
        async with self._load_lock(model_id):  # one load for all concurrent requests
            if serving := self.get_loaded(model_id):
                return serving
            model = await self._models.read(model_id)
            reason = await self._load(model)
        if serving := self.get_loaded(model_id):  # published meanwhile
            return serving
        raise ModelNotTrained(reason or f"Model {quoted(model_id)} was removed meanwhile.")

    async def unavailable_reason(self, model: StoredModel) -> str | None:
        """Why no version of the model can serve; None if one can.

        The model is loaded to find out, unless others would be evicted: then only a quick check is made.
        """
        if self.is_loaded(model.model_id):
            return None
        is_too_large = model.file_stat is not None and not self._fits(model.file_stat.st_size)
        if is_too_large and await self.quick_unavailable_reason(model) is None:
            return None
        async with self._load_lock(model.model_id):
            return None if self.is_loaded(model.model_id) else await self._load(model)

    async def quick_unavailable_reason(self, model: StoredModel) -> str | None:
        """Why no version of the model can serve, as far as known without loading it; None if one seems to.

        The result for an unchanged file is cached. Of others only the beginning and the end are read: damage in
        between is found on first use.
        """
        if self.is_loaded(model.model_id):
            return None
        refusal = self._known_reason(model.model_id, model.file_stat)
        if model.file_stat is None:
            return unavailable_reason(model, permanent=refusal is not None and refusal.final)
        if refusal is not None:
            return refusal.reason
        stamp = file_stamp(model.file_stat)
        if self._checked_stamps.get(model.model_id) != stamp:
            return await self._check_ends(model, stamp)
        return None

    def is_permanently_unavailable(self, model: StoredModel) -> bool:
        """Whether the model is known to have no version that can serve, until its files change."""
        refusal = self._known_reason(model.model_id, model.file_stat)
        return refusal is not None and refusal.final

    def _known_reason(self, model_id: str, file: stat_result | None) -> _Unavailable | None:
        """The cached reason why the file of a model, with the status ``file``, cannot serve."""
        refusal = self._unavailable.get(model_id)
        return refusal if refusal is not None and refusal.stamp == (file and file_stamp(file)) else None

    def _load_lock(self, model_id: str) -> asyncio.Lock:
        """The lock for loading a model; it exists as long as a task holds or awaits it."""
        return self._load_locks.setdefault(model_id, asyncio.Lock())

    async def _check_ends(self, model: StoredModel, stamp: Stamp) -> str | None:
        try:
            await asyncio.to_thread(lambda: artifact.check_ends(self._models.load_path(model.model_id)))
        except FileNotFoundError:
            return unavailable_reason(model)
        except (ModelUnavailable, OSError) as error:
            return str(error)  # not remembered: it may be read the next time
        except UnreadableModel as error:
            self._unavailable[model.model_id] = _Unavailable(stamp, str(error), final=self.on_damage is None)
            return str(error)
        self._checked_stamps[model.model_id] = stamp
        return None

    def activate(self, model_id: str, recommender: Recommender, file: stat_result) -> None:
        """Make a version serve from now on. Running requests finish with the version they started with.

        The least recently used models are evicted if memory is short.
        """
        stamp = file_stamp(file)
        self._evict(model_id)
        self._loaded[model_id] = recommender, stamp
        self._bytes_used += stamp[1]
        self._unavailable.pop(model_id, None)
        self._checked_stamps[model_id] = stamp
        self._evict_until_fits(model_id)
        # Otherwise it is the same version as before, loaded again.
        if self._announced.get(model_id) != stamp:
            self._announced[model_id] = stamp
            self._events.publish(ModelServes(model_id, recommender.model_version))
            self.on_change()

    def remove(self, model_id: str) -> None:
        """Remove a deleted model."""
        self._evict(model_id)
        for known in (self._unavailable, self._announced, self._checked_stamps):
            known.pop(model_id, None)
        self.on_change()

    def _fits(self, size: int) -> bool:
        return self._max_bytes is None or self._bytes_used + size <= self._max_bytes

    def _evict_until_fits(self, requested: str) -> None:
        """Evict models until the rest fits, but never the ``requested`` one.

        A model whose file was replaced by an invalid one cannot be loaded again: it is not evicted.
        """
        for model_id in list(self._loaded) if not self._fits(0) else ():
            if self._fits(0):
                break
            if model_id != requested and model_id not in self._unavailable:
                self._evict(model_id)

    def _evict(self, model_id: str) -> None:
        """Remove a version from memory, if it is loaded."""
        evicted = [self._loaded.pop(model_id, None)]
        if evicted[0] is not None:
            _, (_, size, _) = evicted[0]
            self._bytes_used -= size
            asyncio.get_running_loop().run_in_executor(None, evicted.clear)  # freeing large arrays is slow

    async def refresh(self) -> None:
        """Load files that were replaced, and remove models whose files were deleted by hand.

        Damaged or missing files are repaired if possible. If the folder is missing, or is another, empty one, its
        disk is probably not mounted: then nothing is unloaded.
        """
        known = await self._models.file_stats()
        folder = await asyncio.to_thread(file_identity, self._models.folder)
        if not known and (folder is None or folder != self._folder):
            return
        self._folder = folder
        for model_id in (self._announced.keys() | self._unavailable.keys()) - known.keys():
            self.remove(model_id)
        for model_id, file in known.items():
            if self._needs_refresh(model_id, file):
                await self._reload(model_id)

    def _needs_refresh(self, model_id: str, file: stat_result | None) -> bool:
        """Whether the file of a model is to be loaded or repaired."""
        if (refusal := self._known_reason(model_id, file)) is not None:
            return not refusal.final
        if file is None:
            return self.on_damage is not None
        serving = self._loaded.get(model_id)
        return serving is not None and serving[1] != file_stamp(file)

    async def _reload(self, model_id: str) -> None:
        async with self._load_lock(model_id):
            with contextlib.suppress(ModelNotFound):  # deleted meanwhile: the next refresh removes it
                await self._load(await self._models.read(model_id))

    async def _load(self, model: StoredModel) -> str | None:
        """Load the model's file. If it cannot serve, returns why; then the previous version keeps serving."""
        file = model.file_stat
        while file is not None:
            stamp, refusal = file_stamp(file), self._known_reason(model.model_id, file)
            if refusal is not None and refusal.final:
                return refusal.reason
            try:
                recommender = await asyncio.to_thread(self._open, model.model_id)
            except (ModelUnavailable, OSError) as error:
                return str(error)  # not remembered: it may be read the next time
            except UnreadableModel as error:
                return await self._repair(model.model_id, stamp, str(error))
            async with self._models.locks.reading(model.model_id):  # else a newer version could be swapped back
                file = await asyncio.to_thread(self._models.file_stat, model.model_id)
                if file is not None and file_stamp(file) == stamp:  # else it was replaced or deleted meanwhile
                    self.activate(model.model_id, recommender, file)
                    return None
        return await self._repair(
            model.model_id, None, unavailable_reason(model, permanent=self.on_damage is not None)
        )

    async def _repair(self, model_id: str, stamp: Stamp | None, reason: str) -> str | None:
        """Repair a damaged or missing file; if that fails, returns why no version serves."""
        self._unavailable[model_id] = _Unavailable(stamp, reason, final=True)
        try:
            if self.on_damage is None or not await self.on_damage(model_id):
                return reason
        except OSError as error:
            reason = repair_pending_reason(model_id, error)
            self._unavailable[model_id] = _Unavailable(stamp, reason, final=False)
            return reason
        return None

    def _open(self, model_id: str) -> Recommender:
        return load_model(self._models.load_path(model_id))[1]
