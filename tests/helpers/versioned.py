"""Trainings whose versions can be told apart, and what is asked about versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.core.events import RunEnded
from tests.helpers.workbench import Workbench


def interactions(users: int, items: int = 20) -> Interactions:
    """Each user interacted with five items."""
    return Interactions(
        users=[f"u{user:04}" for user in range(users)],
        items=[f"i{item:02}" for item in range(items)],
        indptr=np.arange(users + 1, dtype=np.int64) * 5,
        indices=np.concatenate([np.sort((np.arange(5) * 3 + user) % items) for user in range(users)]).astype(
            np.int32
        ),
        ratings=np.ones(users * 5, np.float32),
        rows_used=users * 5,
    )


async def trained(bench: Workbench, versions: int) -> None:
    """Train task ``t`` that often, on a little more each time."""
    await bench.add_task()
    for number in range(versions):
        assert (await bench.finish(interactions(100 + number))).outcome == "completed"
        if number < versions - 1:
            await bench.rec.run_task("t")


async def run(bench: Workbench, users: int, **options: Any) -> RunEnded:
    await bench.rec.run_task("t", **options)
    return await bench.finish(interactions(users))


async def versions(bench: Workbench) -> list[tuple[int, bool, bool, bool]]:
    listed = (await bench.rec.list_model_versions("m"))["data"]
    return [(one["model_version"], one["promoted"], one["serving"], one["pinned"]) for one in listed]


async def answers(bench: Workbench) -> int:
    """The version that answers."""
    return int((await bench.rec.recommend("u0001", model_id="m"))["model_version"])


def trio(bench: Workbench) -> tuple[int, int, int]:
    """What the model's three files are, by their number."""
    folder = bench.rec.data_dir / "models"
    config, metadata = (json.loads((folder / f"m_{name}.json").read_text()) for name in ("config", "metadata"))
    packed = next(
        int(path.stem) for path in (folder / ".versions" / "m").glob("*.pkl") if path.samefile(folder / "m.pkl")
    )
    return config["model_version"], metadata["model_version"], packed


def models_of(bench: Workbench) -> Path:
    return bench.rec.data_dir / "models"


def kept(bench: Workbench, number: int, ending: str = "pkl") -> Path:
    return models_of(bench) / ".versions" / "m" / f"{number}.{ending}"


async def damaged(bench: Workbench) -> dict[int, str]:
    """What is said of each damaged version."""
    listed = (await bench.rec.list_model_versions("m"))["data"]
    return {one["model_version"]: one["damaged"] for one in listed if "damaged" in one}
