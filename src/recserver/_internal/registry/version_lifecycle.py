"""Publishing, rolling back, promoting, pinning and pruning the versions of models."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recserver._internal.core.clock import Clock
from recserver._internal.core.errors import ModelUnavailable, UnreadableModel, VersionNotFound
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.registry.external_model_files import import_external_file
from recserver._internal.registry.model_cache import ModelCache
from recserver._internal.registry.model_config import ConfigChange
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.registry.retention import retained_versions
from recserver._internal.registry.version_files import Version
from recserver._internal.registry.version_integrity import IntegrityChecker, open_version, unusable_version_error
from recserver._internal.registry.version_store import VersionStore
from recserver._internal.results.models import VersionInfo
from recserver._internal.storage.model_file.version_numbers import is_version

logger = logging.getLogger(__name__)

NOT_PROMOTED_PREFIX = "not promoted"
"""The beginning of the error of a model whose last version the quality gate rejected."""

CHOSEN_VERSION_KEY = "chosen_version"
"""Key of a model's config: the version that a user chose to serve."""

KEYS_CLEARED_ON_SUCCESS = "error", "failed_at", "stopped_at", "modified_at", "quarantined", CHOSEN_VERSION_KEY
"""Keys of the config that a successful training removes."""


@dataclass(frozen=True, kw_only=True)
class ModelVersions:
    """Changes which version of a model serves, on the disk and in memory."""

    models: ModelStore
    version_store: VersionStore
    model_cache: ModelCache
    clock: Clock
    max_versions: int
    """How many versions of a model are stored, besides those pinned or needed for a rollback."""
    _integrity_checker: IntegrityChecker = field(default_factory=IntegrityChecker, init=False)

    async def publish(self, model_id: str, packed: Path, version: Version, recommender: Recommender) -> None:
        """Make a new version the serving one.

        Raises:
            ModelNotFound: if the model's config is missing.
            OSError: if it cannot be written; then the previous version keeps serving.
        """
        await self.import_external_file(model_id, version.model_version)
        previous = await self.version_store.serving(model_id)
        version = version.model_copy(update={"served_before": previous or None})
        change = ConfigChange(ModelStatus.COMPLETED, KEYS_CLEARED_ON_SUCCESS)
        async with self.models.locks.changing(model_id):
            file = await self.version_store.publish(model_id, packed, version, change)
            self.model_cache.activate(model_id, recommender, file)
        await self.prune(model_id)

    async def store_candidate(
        self, model_id: str, packed: Path, version: Version, status: ModelStatus, **changes: Any
    ) -> None:
        """Store a new version that does not serve, and change the model's config."""
        candidate = version.model_copy(update={"promoted": False})
        drop = KEYS_CLEARED_ON_SUCCESS if status is ModelStatus.COMPLETED else ()
        change = ConfigChange(status, drop, changes)
        await self.version_store.store_candidate(model_id, packed, candidate, change)
        await self.prune(model_id)

    async def serving(self, model_id: str) -> tuple[int, int | None]:
        """The number of the serving version or 0, and of the version that a user chose last or None."""
        chosen = (await self.models.read(model_id)).config.get(CHOSEN_VERSION_KEY)
        return await self.version_store.serving(model_id), chosen if is_version(chosen) else None

    async def metrics(self, model_id: str) -> dict[str, Any]:
        """The metrics of the serving version."""
        metadata = await asyncio.to_thread(self.models.metadata, model_id)
        metrics = metadata.get("metrics") or (await self.models.read(model_id)).config.get("model_metrics")
        return metrics if isinstance(metrics, dict) else {}

    async def pinned_version(self, model_id: str) -> int | None:
        """The number of the serving version if it is pinned, so that no new version replaces it."""
        serving, versions = await self.version_store.serving_and_all(model_id)
        return serving if any(one.pinned for one in versions if one.model_version == serving) else None

    async def describe_all(self, model_id: str) -> list[VersionInfo]:
        """A model's versions, newest first."""
        serving, versions = await self.version_store.serving_and_all(model_id)
        return [
            VersionInfo(
                model_version=one.model_version,
                created_at=one.created_at,
                metrics=one.metadata.get("metrics", {}),
                promoted=one.promoted,
                serving=one.model_version == serving,
                pinned=one.pinned,
                bytes=one.size,
                damaged=damaged,
            )
            for one, damaged in zip(versions, await self._find_damage(model_id, versions), strict=True)
        ]

    async def _find_damage(self, model_id: str, versions: list[Version]) -> list[str | None]:
        """Why each of the versions cannot serve; None for a good one."""
        paths = [self.version_store.path(model_id, one.model_version) for one in versions]
        return await asyncio.to_thread(lambda: list(map(self._integrity_checker.find_damage, paths, versions)))

    async def roll_back(self, model_id: str, number: int | None) -> int:
        """Make an earlier version, by default the previous one, serve again; returns its number.

        Raises:
            VersionNotFound: if it is not stored.
            UnreadableModel: if it is damaged; then nothing changes.
        """
        await self.import_external_file(model_id)
        if number is not None:
            await self._activate(model_id, await self.version_store.find(model_id, number))
            return number
        first_error: UnreadableModel | None = None
        for version in await self._rollback_candidates(model_id):
            try:
                await self._activate(model_id, version)
            except ModelUnavailable:
                raise
            except UnreadableModel as error:
                first_error = first_error or error
                logger.warning("%s", error)
            else:
                return version.model_version
        raise first_error or VersionNotFound(model_id, None)

    async def promote(self, model_id: str, number: int) -> None:
        """Make any version the serving one, also one that the quality gate rejected.

        Raises:
            VersionNotFound, UnreadableModel: as for :meth:`roll_back`.
        """
        newest = number == await self.version_store.highest(model_id)
        await self.import_external_file(model_id)
        version = await self.version_store.find(model_id, number)
        serving = await self.version_store.serving(model_id)
        if serving and serving < number:  # otherwise a rollback from it would lead to a newer version
            version = version.model_copy(update={"served_before": serving})
        error = str((await self.models.read(model_id)).config.get("error", ""))
        await self._activate(model_id, version, clears_error=newest and error.startswith(NOT_PROMOTED_PREFIX))

    async def pin(self, model_id: str, number: int, pinned: bool) -> int | None:
        """Pin or unpin a version.

        Returns:
            After unpinning, a newer version that did not replace the pinned one, if there is one.

        Raises:
            VersionNotFound: if it is not stored.
        """
        version = await self.version_store.find(model_id, number)
        await self.version_store.update(model_id, version.model_copy(update={"pinned": pinned}))
        if pinned:
            return None
        await self.prune(model_id)
        serving, (newest, *_) = await self.version_store.serving_and_all(model_id)
        return newest.model_version if not newest.promoted and newest.model_version > serving else None

    async def import_external_file(self, model_id: str, reserved: int = 0) -> None:
        """Store a model file that was put in place by hand as a version, before it is replaced."""
        now = self.clock.now()
        number = await import_external_file(self.models, self.version_store, model_id, now, reserved)
        if number is not None:
            logger.warning("model %s: a file put in place by hand is stored as version %d", model_id, number)

    async def prune(self, model_id: str) -> None:
        """Remove the oldest versions, except those that are pinned or needed for a rollback."""
        serving, versions = await self.version_store.serving_and_all(model_id)
        try:
            await self.version_store.prune(model_id, retained_versions(versions, serving, self.max_versions))
        except OSError as error:
            logger.warning("old versions of model %s could not be removed: %s", model_id, error)

    async def _rollback_candidates(self, model_id: str) -> list[Version]:
        """The versions to roll back to, best first: those with lower numbers that have served before.

        The best is the one that the serving version replaced, then come the highest numbers.
        """
        serving, versions = await self.version_store.serving_and_all(model_id)
        previous = next((one.served_before for one in versions if one.model_version == serving), None)
        lower = [one for one in versions if one.model_version < serving and one.promoted]
        return sorted(lower, key=lambda one: one.model_version != previous)

    async def _activate(self, model_id: str, version: Version, *, clears_error: bool = False) -> None:
        """Make the version that a user chose the serving one."""
        number, chosen = version.model_version, {CHOSEN_VERSION_KEY: version.model_version}
        if clears_error:
            change = ConfigChange(ModelStatus.COMPLETED, KEYS_CLEARED_ON_SUCCESS, chosen)
        else:
            change = ConfigChange(drop=("quarantined",), values=chosen)
        path, promoted = self.version_store.path(model_id, number), version.model_copy(update={"promoted": True})
        try:
            recommender = await asyncio.to_thread(open_version, path, version)
            async with self.models.locks.changing(model_id):
                file = await self.version_store.activate(model_id, promoted, change)
                self.model_cache.activate(model_id, recommender, file)
        except FileNotFoundError:
            file_stat = await asyncio.to_thread(self.models.file_stat, model_id)
            if file_stat and number == await self.version_store.serving(model_id):
                return  # trained before versions were stored: there is no other copy
            raise VersionNotFound(model_id, number) from None
        except UnreadableModel as error:
            others = await self._usable_alternatives(model_id, excluding=number)
            raise unusable_version_error(model_id, number, error, others) from None
        logger.info("model %s: version %d serves", model_id, number)

    async def _usable_alternatives(self, model_id: str, excluding: int) -> list[int]:
        """The versions that can serve instead of one, as far as a check without loading shows."""
        serving, versions = await self.version_store.serving_and_all(model_id)
        damage = await self._find_damage(model_id, versions)
        found = [one.model_version for one, why in zip(versions, damage, strict=True) if why is None]
        return [one for one in found if one not in (excluding, serving)]
