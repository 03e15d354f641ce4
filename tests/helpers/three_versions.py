"""A model of three versions, and what is left of it after whatever was done."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from recserver._internal.registry.model_config import ConfigChange
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.registry.version_files import Version
from recserver._internal.registry.version_store import VersionStore
from recserver._internal.storage import atomic_files as files


def version(number: int) -> Version:
    told = {"model_version": number}
    return Version(model_version=number, created_at="then", metadata=told, config=told)


def packed(models: ModelStore, number: int) -> Path:
    """What a worker leaves: a finished file beside the model's."""
    path = files.temporary_path(models.model_path("m"))
    path.write_text(f"version {number}")
    return path


async def publish(models: ModelStore, versions: VersionStore, number: int = 4) -> None:
    change = ConfigChange(ModelStatus.COMPLETED, drop=["error"])
    await versions.publish("m", packed(models, number), version(number), change)


def content(folder: Path) -> dict[str, str]:
    """Every file in a folder by its name, what is on its way included."""
    found = {
        os.path.relpath(f"{parent}/{name}", folder): Path(parent, name).read_text()
        for parent, _, names in os.walk(folder)
        for name in names
    }
    return dict(sorted(found.items()))


async def recovered(folder: Path) -> dict[str, str]:
    """What there is after the next start of a server."""

    def found() -> dict[str, str]:
        ModelStore(folder).recover()
        return content(folder)

    return await asyncio.to_thread(found)


async def copied(source: Path, folder: Path) -> tuple[ModelStore, VersionStore]:
    """The stores of a folder, which is made a copy of ``source``."""

    def copy() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)

    await asyncio.to_thread(copy)
    models = ModelStore(folder)
    return models, VersionStore(models)
