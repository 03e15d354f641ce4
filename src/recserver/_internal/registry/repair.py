"""Repair of a damaged or missing model file by the newest intact version."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recserver._internal.core.clock import Clock
from recserver._internal.core.errors import (
    ModelChanged,
    ModelNotFound,
    ModelUnavailable,
    UnreadableModel,
    os_error_text,
)
from recserver._internal.registry.model_cache import ModelCache
from recserver._internal.registry.model_store import QUARANTINE_SUFFIX, ModelStore
from recserver._internal.registry.version_files import Version
from recserver._internal.registry.version_integrity import file_sha256, open_version
from recserver._internal.registry.version_lifecycle import CHOSEN_VERSION_KEY
from recserver._internal.registry.version_store import VersionStore
from recserver._internal.storage.atomic_files import open_nonblocking
from recserver._internal.storage.model_file.format import OPENING

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelRepairer:
    """Replaces damaged or missing model files by stored versions."""

    models: ModelStore
    store: VersionStore
    model_cache: ModelCache
    clock: Clock

    async def repair(self, model_id: str) -> bool:
        """Replace a damaged or missing file by the version that served, else by the newest intact one.

        A damaged file is quarantined under another name. A foreign file is not touched.

        Returns:
            Whether a version serves now.

        Raises:
            OSError: if a retry may succeed, once the disk can be read and written again.
        """
        published = await asyncio.to_thread(self.models.metadata, model_id)
        try:
            is_repairable, damaged = await asyncio.to_thread(self._damaged_file, model_id, published)
        except FileNotFoundError:  # removed meanwhile, or a broken link
            return False
        temporary_error: OSError | None = None
        for version in await self._candidates(model_id) if is_repairable else ():
            number, reason = version.model_version, ""
            try:
                return await self._activate(model_id, version, damaged)
            except ModelUnavailable as error:
                reason, temporary_error = error.reason, OSError(errno.EIO, error.reason)
            except UnreadableModel as error:
                reason = error.reason
            except FileNotFoundError:
                reason = "its file is missing"
            except OSError as error:
                reason, temporary_error = os_error_text(error), error
            except (ModelChanged, ModelNotFound) as error:  # the model needs no repair any more
                reason = str(error)
            logger.warning("version %d of model %s cannot replace the damaged file: %s", number, model_id, reason)
        if temporary_error is not None:
            raise temporary_error
        return False

    def _damaged_file(self, model_id: str, published: Mapping[str, Any]) -> tuple[bool, os.stat_result | None]:
        """Whether a model's file can be repaired: it is missing, or damaged and not foreign. And its status."""
        path = self.models.load_path(model_id)
        if not os.path.lexists(path):
            return True, None
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return False, status
        with open(path, "rb", opener=open_nonblocking) as file:
            opening = file.read(len(OPENING))
        is_own_format = OPENING.startswith(opening) or status.st_size == published.get("size")
        return is_own_format and "sha256" in published and file_sha256(path) != published["sha256"], status

    async def _candidates(self, model_id: str) -> list[Version]:
        """The versions that may serve: the serving one first, then newest first."""
        serving, versions = await self.store.serving_and_all(model_id)
        usable = [one for one in versions if one.promoted and not one.unrecorded]
        return sorted(usable, key=lambda one: one.model_version != serving)

    async def _activate(self, model_id: str, version: Version, damaged: os.stat_result | None) -> bool:
        number, serving = version.model_version, await self.store.serving(model_id)
        path = self.store.path(model_id, number)
        recommender = await asyncio.to_thread(open_version, path, version)
        quarantine_name = (
            f"{self.models.model_path(model_id).name}{QUARANTINE_SUFFIX}{self.clock.now():%Y%m%dT%H%M%S}"
        )
        drop = () if number == serving else (CHOSEN_VERSION_KEY,)  # no user chose this one
        async with self.models.locks.changing(model_id):
            file = await self.store.replace_damaged(model_id, version, damaged, quarantine_name, drop)
            self.model_cache.activate(model_id, recommender, file)
        was = "missing" if damaged is None else f"damaged and was renamed to {quarantine_name}"
        logger.error("model %s: its file is %s; version %d serves", model_id, was, number)
        return True
