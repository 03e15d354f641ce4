"""Which version of a model serves: a new one, one that is put back, one that a person prefers to the gate."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from recserver.core.clock import Clock
from recserver.core.errors import ModelUnavailable, UnreadableModel, VersionNotFound
from recserver.recommend.model.recommender import Recommender
from recserver.registry.manual_import import import_external_file
from recserver.registry.model_cache import ModelCache
from recserver.registry.model_status import ModelStatus
from recserver.registry.model_store import ModelStore
from recserver.registry.retention import kept_versions
from recserver.registry.version_files import Version
from recserver.registry.version_integrity import IntegrityChecker, open_version, unusable_version_error
from recserver.registry.version_store import VersionStore
from recserver.storage.model_file.version_numbers import is_version

logger = logging.getLogger(__name__)

NOT_PROMOTED_PREFIX = "not promoted"
"""How the error begins of a model whose last version the gate refused."""

CHOSEN_VERSION_KEY = "chosen_version"
"""Key of a model's config with the version that serves because a person said so."""

KEYS_CLEARED_ON_SUCCESS = "error", "failed_at", "stopped_at", "modified_at", "quarantined", CHOSEN_VERSION_KEY
"""Keys of the config that a training which ended well leaves no ground for."""


class ModelVersions:
    """Puts versions of models in place of each other, on the disk and in memory."""

    def __init__(
        self,
        *,
        models: ModelStore,
        version_store: VersionStore,
        model_cache: ModelCache,
        clock: Clock,
        max_versions: int,
    ) -> None:
        """
        Args:
            keep: how many versions of a model are kept, beside those that are pinned or needed to go back.
        """
        self._models, self._version_store, self._model_cache, self._clock, self._max_versions = (
            models,
            version_store,
            model_cache,
            clock,
            max_versions,
        )
        self._integrity_checker = IntegrityChecker()

    async def publish(self, model_id: str, packed: Path, version: Version, recommender: Recommender) -> None:
        """Let a new version serve.

        Raises:
            ModelNotFound: if the model's config is gone.
            OSError: if it cannot be written; the version before serves on.
        """
        await self.import_external_file(model_id, version.model_version)
        before = await self._version_store.serving(model_id)
        version = version.model_copy(update={"served_before": before or None})
        async with self._models.locks.changing(model_id):
            file = await self._version_store.publish(
                model_id, packed, version, ModelStatus.COMPLETED, KEYS_CLEARED_ON_SUCCESS
            )
            self._model_cache.activate(model_id, recommender, file)
        await self.prune(model_id)

    async def store_candidate(
        self, model_id: str, packed: Path, version: Version, status: ModelStatus, **changes: Any
    ) -> None:
        """Keep a new version beside the one that serves, and change the model's config."""
        kept = version.model_copy(update={"promoted": False})
        drop = KEYS_CLEARED_ON_SUCCESS if status is ModelStatus.COMPLETED else ()
        await self._version_store.store_candidate(model_id, packed, kept, status, drop, **changes)
        await self.prune(model_id)

    async def serving(self, model_id: str) -> tuple[int, int | None]:
        """The number of the version that serves, and of the one that a person chose last; 0 and None without."""
        chosen = (await self._models.read(model_id)).config.get(CHOSEN_VERSION_KEY)
        return await self._version_store.serving(model_id), chosen if is_version(chosen) else None

    async def metrics(self, model_id: str) -> dict[str, Any]:
        """What was measured of the version that serves."""
        metadata = await self._models.metadata(model_id)
        metrics = metadata.get("metrics") or (await self._models.read(model_id)).config.get("model_metrics")
        return metrics if isinstance(metrics, dict) else {}

    async def pinned_version(self, model_id: str) -> int | None:
        """The number of the version that serves, if it is to go on serving whatever is trained."""
        serving = await self._version_store.serving(model_id)
        found = [
            one
            for one in await self._version_store.read_all(model_id)
            if one.model_version == serving and one.pinned
        ]
        return found[0].model_version if found else None

    async def describe_all(self, model_id: str) -> list[dict[str, Any]]:
        """A model's versions as they are told, newest first; of one that cannot serve, why, as ``damaged``."""
        serving, versions = (
            await self._version_store.serving(model_id),
            await self._version_store.read_all(model_id),
        )
        return [
            {
                "model_version": one.model_version,
                "created_at": one.created_at,
                "metrics": one.metadata.get("metrics", {}),
                "promoted": one.promoted,
                "serving": one.model_version == serving,
                "pinned": one.pinned,
                "bytes": one.size,
                **({"damaged": damaged} if damaged else {}),
            }
            for one, damaged in zip(versions, await self._find_damage(model_id, versions), strict=True)
        ]

    async def _find_damage(self, model_id: str, versions: list[Version]) -> list[str | None]:
        """What is wrong with each of those versions."""
        paths = [self._version_store.path(model_id, one.model_version) for one in versions]
        return await asyncio.to_thread(lambda: list(map(self._integrity_checker.find_damage, paths, versions)))

    async def roll_back(self, model_id: str, number: int | None) -> int:
        """Let an earlier version serve again, by default the one before, and say which.

        Raises:
            VersionNotFound: if it is not kept.
            UnreadableModel: if it is damaged; then nothing changes.
        """
        await self.import_external_file(model_id)
        if number is not None:
            await self._activate(model_id, await self._version_store.find(model_id, number))
            return number
        refused: UnreadableModel | None = None
        for version in await self._rollback_candidates(model_id):
            try:
                await self._activate(model_id, version)
            except ModelUnavailable:
                raise
            except UnreadableModel as error:  # which the list of versions names
                refused = refused or error
                logger.warning("%s", error)
            else:
                return version.model_version
        raise refused or VersionNotFound(model_id, None)

    async def promote(self, model_id: str, number: int) -> None:
        """Let a version serve that the gate refused, or any other.

        Raises:
            VersionNotFound, UnreadableModel: as for :meth:`roll_back`.
        """
        newest = number == await self._version_store.highest(model_id)
        await self.import_external_file(model_id)
        version, serving = (
            await self._version_store.find(model_id, number),
            await self._version_store.serving(model_id),
        )
        if serving and serving < number:  # else going back from it would lead forward
            version = version.model_copy(update={"served_before": serving})
        error = str((await self._models.read(model_id)).config.get("error", ""))
        await self._activate(model_id, version, clears_error=newest and error.startswith(NOT_PROMOTED_PREFIX))

    async def pin(self, model_id: str, number: int, pinned: bool) -> int | None:
        """Keep a version for good, or no longer.

        Returns:
            A newer version that was kept from serving meanwhile, if there is one.

        Raises:
            VersionNotFound: if it is not kept.
        """
        version = await self._version_store.find(model_id, number)
        await self._version_store.update(model_id, version.model_copy(update={"pinned": pinned}))
        if pinned:
            return None
        await self.prune(model_id)
        newest, serving = (
            (await self._version_store.read_all(model_id))[0],
            await self._version_store.serving(model_id),
        )
        return newest.model_version if not newest.promoted and newest.model_version > serving else None

    async def import_external_file(self, model_id: str, reserved: int = 0) -> None:
        """Keep what a person put in the place of the model's file as a version, before something replaces it."""
        number = await import_external_file(
            self._models, self._version_store, model_id, self._clock.now(), reserved
        )
        if number is not None:
            logger.warning(
                "model %s: the file that was put in place by hand is kept as version %d", model_id, number
            )

    async def prune(self, model_id: str) -> None:
        """Remove the oldest versions, as far as nobody can want them back."""
        serving, versions = (
            await self._version_store.serving(model_id),
            await self._version_store.read_all(model_id),
        )
        try:
            await self._version_store.prune(model_id, kept_versions(versions, serving, self._max_versions))
        except OSError as error:
            logger.warning("old versions of model %s could not be removed: %s", model_id, error)

    async def _rollback_candidates(self, model_id: str) -> list[Version]:
        """The versions to go back to, the first one first: only such as have served, and only lower numbers.

        It is the one in whose place the serving one came, else the highest.
        """
        serving, versions = (
            await self._version_store.serving(model_id),
            await self._version_store.read_all(model_id),
        )
        before = next((one.served_before for one in versions if one.model_version == serving), None)
        lower = [one for one in versions if one.model_version < serving and one.promoted]
        return sorted(lower, key=lambda one: one.model_version != before)

    async def _activate(self, model_id: str, version: Version, *, clears_error: bool = False) -> None:
        """Let a version serve because a person said so."""
        number = version.model_version
        served = version.model_copy(update={"promoted": True})
        status, drop = (
            (ModelStatus.COMPLETED, KEYS_CLEARED_ON_SUCCESS) if clears_error else (None, ("quarantined",))
        )
        try:
            recommender = await asyncio.to_thread(
                open_version, self._version_store.path(model_id, number), version
            )
            async with self._models.locks.changing(model_id):
                file = await self._version_store.activate(
                    model_id, served, status, drop, **{CHOSEN_VERSION_KEY: number}
                )
                self._model_cache.activate(model_id, recommender, file)
        except FileNotFoundError:
            if number == await self._version_store.serving(model_id) and await self._models.get_file_stat(
                model_id
            ):
                return  # trained before versions were kept: it serves, and there is no other copy
            raise VersionNotFound(model_id, number) from None
        except UnreadableModel as error:
            raise unusable_version_error(
                model_id, number, error, await self._usable_alternatives(model_id, excluding=number)
            ) from None
        logger.info("model %s: version %d serves", model_id, number)

    async def _usable_alternatives(self, model_id: str, excluding: int) -> list[int]:
        """The versions that can be gone to in place of one, as far as looking tells."""
        serving, versions = (
            await self._version_store.serving(model_id),
            await self._version_store.read_all(model_id),
        )
        damage = await self._find_damage(model_id, versions)
        found = [one.model_version for one, why in zip(versions, damage, strict=True) if why is None]
        return [one for one in found if one not in (excluding, serving)]
