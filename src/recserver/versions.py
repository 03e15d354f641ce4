"""Which version of a model serves: a new one, one that is put back, one that a person prefers to the gate."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recserver.artifact.grammar import OPENING
from recserver.catalog import Catalog, open_packed
from recserver.clock import Clock
from recserver.errors import RecServerError, UnreadableModel, VersionNotFound, shown
from recserver.recommend.recommender import Recommender
from recserver.specs.models import ModelStatus
from recserver.store.files import without_waiting
from recserver.store.models import BROKEN, ModelStore
from recserver.store.versions import Version, VersionStore

logger = logging.getLogger(__name__)

NOT_PROMOTED = "not promoted"
"""How the error begins of a model whose last version the gate refused."""

SETTLED = "error", "failed_at", "stopped_at", "modified_at", "quarantined"
"""Keys of the config that a training which ended well leaves no ground for."""


class ModelVersions:
    """Puts versions of models in place of each other, on the disk and in memory."""

    def __init__(
        self, *, models: ModelStore, store: VersionStore, catalog: Catalog, clock: Clock, keep: int
    ) -> None:
        """
        Args:
            keep: how many versions of a model are kept, beside those that are pinned or needed to go back.
        """
        self._models, self._store, self._catalog, self._clock, self._keep = models, store, catalog, clock, keep

    async def publish(self, model_id: str, packed: Path, version: Version, recommender: Recommender) -> None:
        """Let a new version serve.

        Raises:
            ModelNotFound: if the model's config is gone.
            OSError: if it cannot be written; the version before serves on.
        """
        before = await self._store.serving(model_id)
        version = version.model_copy(update={"served_before": before or None})
        file = await self._store.publish(model_id, packed, version, ModelStatus.COMPLETED, SETTLED)
        self._catalog.swap(model_id, recommender, file)
        await self.prune(model_id)

    async def keep(
        self, model_id: str, packed: Path, version: Version, status: ModelStatus, **changes: Any
    ) -> None:
        """Keep a new version beside the one that serves, and change the model's config."""
        kept = version.model_copy(update={"promoted": False})
        drop = SETTLED if status is ModelStatus.COMPLETED else ()
        await self._store.keep(model_id, packed, kept, status, drop, **changes)
        await self.prune(model_id)

    async def metrics(self, model_id: str) -> dict[str, Any]:
        """What was measured of the version that serves."""
        metadata = await self._models.metadata(model_id)
        metrics = metadata.get("metrics") or (await self._models.read(model_id)).config.get("model_metrics")
        return metrics if isinstance(metrics, dict) else {}

    async def pinned(self, model_id: str) -> int | None:
        """The number of the version that serves, if it is to go on serving whatever is trained."""
        serving = await self._store.serving(model_id)
        found = [one for one in await self._store.all(model_id) if one.model_version == serving and one.pinned]
        return found[0].model_version if found else None

    async def listed(self, model_id: str) -> list[dict[str, Any]]:
        """A model's versions as they are told, newest first."""
        serving = await self._store.serving(model_id)
        return [
            {
                "model_version": one.model_version,
                "created_at": one.created_at,
                "metrics": one.metadata.get("metrics", {}),
                "promoted": one.promoted,
                "serving": one.model_version == serving,
                "pinned": one.pinned,
                "bytes": one.size,
            }
            for one in await self._store.all(model_id)
        ]

    async def roll_back(self, model_id: str, number: int | None) -> int:
        """Let an earlier version serve again, by default the one before, and say which.

        Raises:
            VersionNotFound: if it is not kept.
            UnreadableModel: if it is damaged; then nothing changes.
        """
        if number is None:
            number = await self._before(model_id)
        await self._serve(model_id, await self._store.find(model_id, number))
        return number

    async def promote(self, model_id: str, number: int) -> None:
        """Let a version serve that the gate refused, or any other.

        Raises:
            VersionNotFound, UnreadableModel: as for :meth:`roll_back`.
        """
        version, serving = await self._store.find(model_id, number), await self._store.serving(model_id)
        if serving and serving != number:
            version = version.model_copy(update={"served_before": serving})
        newest = number == await self._store.highest(model_id)
        error = str((await self._models.read(model_id)).config.get("error", ""))
        await self._serve(model_id, version, settles=newest and error.startswith(NOT_PROMOTED))

    async def pin(self, model_id: str, number: int, pinned: bool) -> int | None:
        """Keep a version for good, or no longer.

        Returns:
            A newer version that was kept from serving meanwhile, if there is one.

        Raises:
            VersionNotFound: if it is not kept.
        """
        version = await self._store.find(model_id, number)
        await self._store.change(model_id, version.model_copy(update={"pinned": pinned}))
        if pinned:
            return None
        await self.prune(model_id)
        newest, serving = (await self._store.all(model_id))[0], await self._store.serving(model_id)
        return newest.model_version if not newest.promoted and newest.model_version > serving else None

    async def quarantine(self, model_id: str) -> bool:
        """Put the file of a model aside that is not what was published, and the newest good version in its place.

        A file that is none of ours is left alone, and so is one for which there is no other.

        Returns:
            Whether another serves now.
        """
        published = await self._models.metadata(model_id)
        try:
            damaged = await asyncio.to_thread(_is_damaged, self._models.to_load, model_id, published)
        except OSError as error:  # what cannot be read cannot be told from what was published
            logger.warning("the file of model %s cannot be looked at: %s", model_id, error)
            return False
        if not damaged:
            return False
        aside = f"{self._models.pickle(model_id).name}{BROKEN}{self._clock.now():%Y%m%dT%H%M%S}"
        for version in await self._store.all(model_id):
            if not version.promoted:
                continue
            try:
                await self._serve(model_id, version, aside=aside)
            except (RecServerError, OSError) as error:
                logger.warning("version %d of model %s is of no use: %s", version.model_version, model_id, error)
            else:
                logger.error("model %s: its file is damaged and is kept as %s", model_id, aside)
                return True
        return False

    async def prune(self, model_id: str) -> None:
        """Remove the oldest versions, as far as nobody can want them back."""
        serving, versions = await self._store.serving(model_id), await self._store.all(model_id)
        keep = {one.model_version for one in versions[: self._keep]} | {serving}
        keep |= {one.model_version for one in versions if one.pinned}
        keep |= {one.served_before for one in versions if one.model_version == serving and one.served_before}
        try:
            await self._store.prune(model_id, keep)
        except OSError as error:
            logger.warning("old versions of model %s could not be removed: %s", model_id, error)

    async def _before(self, model_id: str) -> int:
        serving, versions = await self._store.serving(model_id), await self._store.all(model_id)
        kept = {one.model_version: one for one in versions if one.promoted}
        before = kept[serving].served_before if serving in kept else None
        if before in kept:
            return int(before)
        earlier = [number for number in kept if number < serving]
        if not earlier:
            raise VersionNotFound(model_id, None)
        return max(earlier)

    async def _serve(
        self, model_id: str, version: Version, *, settles: bool = False, aside: str | None = None
    ) -> None:
        number = version.model_version
        served = version.model_copy(update={"promoted": True})
        status, drop = (ModelStatus.COMPLETED, SETTLED) if settles else (None, ())
        try:
            packed, recommender = await asyncio.to_thread(open_packed, self._store.path(model_id, number))
            if packed.sha256 != version.metadata.get("sha256", packed.sha256):
                raise UnreadableModel(f"Version {number} of model {shown(model_id)} is another than was kept.")
            file = await self._store.serve(model_id, served, status, drop, aside)
        except FileNotFoundError:
            if aside is None and number == await self._store.serving(model_id):
                return  # trained before versions were kept: it serves, and there is no other copy
            raise VersionNotFound(model_id, number) from None
        self._catalog.swap(model_id, recommender, file)
        logger.info("model %s: version %d serves", model_id, number)


def _is_damaged(to_load: Callable[[str], Path], model_id: str, published: Mapping[str, Any]) -> bool:
    """Whether a model's file is what was published, but changed: as long as that, or cut short."""
    with open(to_load(model_id), "rb", opener=without_waiting) as file:
        opening = file.read(len(OPENING))
        ours = OPENING.startswith(opening) or os.fstat(file.fileno()).st_size == published.get("size")
        file.seek(0)
        return (
            ours
            and "sha256" in published
            and hashlib.file_digest(file, "sha256").hexdigest() != published["sha256"]
        )
