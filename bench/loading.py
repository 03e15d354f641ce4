"""Time and memory of loading a model of 1,000,000 items x 64 until its first recommendations, and of joblib."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np

from bench.memory import smaps_mib
from bench.models import write_random_model
from bench.report import report
from bench.settings import rounds
from recserver._internal.algorithms.top_n import top_n
from recserver._internal.core.events import EventBus
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import recommend
from recserver._internal.recommend.query import Query
from recserver._internal.registry.model_cache import ModelCache
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.storage import model_file as artifact
from recserver._internal.storage.model_file.id_table import IdIndex

USERS, ITEMS, K = 10_000, int(os.environ.get("RECSERVER_BENCH_ITEMS", "1_000_000")), 64
ROUNDS = rounds(5)
LISTED_MODELS = 1_000
"""Models in the folder that is listed."""


@dataclass(frozen=True, slots=True)
class LoadMethod:
    """One method to load a model.

    Attributes:
        load: loads a file and computes recommendations for one user.
        file: the extension of the file to load.
        remove_snapshot: whether to remove the memory-mapped private copy before each measurement.
    """

    load: Callable[[Path], object]
    file: str
    remove_snapshot: bool = False


def _with_joblib(path: Path, mmap_mode: str | None = None) -> object:
    """Load without any checks, and compute the same top ten."""
    arrays = joblib.load(path, mmap_mode=mmap_mode)
    users = IdIndex(arrays["user_text"], arrays["user_offsets"], checked=True)
    top_n(arrays["user_factors"][users.find("u00000001")] @ arrays["item_factors"], 10)
    return arrays


def _recommend(recommender: Recommender) -> object:
    recommend(recommender, "u00000001", Query())
    return recommender


LOAD_METHODS = {
    "joblib.load": LoadMethod(_with_joblib, "joblib"),
    "joblib.load, mapped": LoadMethod(lambda path: _with_joblib(path, "r"), "joblib"),
    "read and verified": LoadMethod(
        lambda path: _recommend(Recommender.from_artifact(artifact.load(path))), "pkl"
    ),
    "load_model, first": LoadMethod(lambda path: _recommend(load_model(path)[1]), "pkl", remove_snapshot=True),
    "load_model, again": LoadMethod(lambda path: _recommend(load_model(path)[1]), "pkl"),
}


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        write_random_model(folder / "bench.pkl", USERS, ITEMS, K)
        joblib.dump(artifact.load(folder / "bench.pkl").arrays, folder / "bench.joblib")
        size = f"{(folder / 'bench.pkl').stat().st_size / 2**20:,.0f} MiB"
        for processes in (1, 4):
            for cold in (False, True):
                await _compare(folder, processes, cold, f"{ITEMS:,} items x {K}, {size}")
    await _measure_status_checks()


async def _compare(folder: Path, processes: int, cold: bool, size: str) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in LOAD_METHODS}
    memory: dict[str, list[float]] = {name: [] for name in LOAD_METHODS}
    for _ in range(ROUNDS):
        for name, method in LOAD_METHODS.items():
            slowest, total = await _measure(folder, name, method, processes, cold)
            seconds[name].append(slowest)
            memory[name].append(total)
    title = f"loading {processes} {'cold' if cold else 'warm'}"
    note = "until the first recommendations, slowest process; without imports; joblib does not verify the file"
    report(f"{title}: {size}, {processes} concurrent processes", "s", seconds, note)
    note = "growth of the proportional set size (PSS), sum of all processes"
    report(f"{title} memory: {size}, {processes} concurrent processes", "MiB", memory, note)


async def _measure(folder: Path, name: str, method: LoadMethod, processes: int, cold: bool) -> tuple[float, float]:
    """Load in concurrent processes: seconds of the slowest one, and MiB of all of them."""
    await asyncio.to_thread(_prepare, folder, remove_snapshots=method.remove_snapshot, cold=cold)
    file = folder / f"bench.{method.file}"
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.loading", name, file, stdin=PIPE, stdout=PIPE,
            env={**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        for _ in range(processes)
    ]  # fmt: skip
    for process in children:
        await process.stdout.readline()  # until its imports are done
    before = sum(smaps_mib(process.pid, "Pss") for process in children)
    for process in children:
        process.stdin.write(b"\n")
    seconds = [float(await process.stdout.readline()) for process in children]
    memory = sum(smaps_mib(process.pid, "Pss") for process in children) - before
    for process in children:
        await process.communicate(b"\n")
    return max(seconds), memory


def _prepare(folder: Path, *, remove_snapshots: bool, cold: bool) -> None:
    """Remove earlier snapshots, and evict all files from the page cache if ``cold``."""
    if remove_snapshots:
        for snapshot in list(folder.glob("recserver-*/*")):
            snapshot.unlink()
    if cold:
        for path in (folder / "bench.pkl", folder / "bench.joblib", *folder.glob("recserver-*/*")):
            _evict_from_page_cache(path)


def _evict_from_page_cache(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


async def _measure_status_checks() -> None:
    """Check whether many models can be loaded: by loading each, by a first and by a repeated quick check."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        write_random_model(folder / "m0.pkl", 1_000, 2_000, 32)
        for number in range(LISTED_MODELS):
            (folder / f"m{number}_config.json").write_text('{"algorithm": "nmf", "status": "completed"}')
            if number:
                (folder / f"m{number}.pkl").write_bytes((folder / "m0.pkl").read_bytes())
        names = "loading each model", "first quick check", "repeated quick check"
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(min(3, ROUNDS)):
            store = ModelStore(folder)
            loading, quick = ModelCache(store, EventBus()), ModelCache(store, EventBus())
            for name, check in zip(
                names,
                (loading.unavailable_reason, quick.quick_unavailable_reason, quick.quick_unavailable_reason),
                strict=True,
            ):
                start = time.perf_counter()
                reasons = [await check(model) for model in await store.read_all()]
                seconds[name].append(time.perf_counter() - start)
                assert reasons == [None] * LISTED_MODELS
        assert statistics.median(seconds["repeated quick check"]) > 0
    report(f"loading list: status of {LISTED_MODELS:,} trained models", "s", seconds)


def _child(name: str, path: str) -> None:
    method = LOAD_METHODS[name]
    np.ones(2) @ np.ones(2)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    model = method.load(Path(path))
    print(time.perf_counter() - start, flush=True)
    sys.stdin.readline()
    del model


if __name__ == "__main__":
    _child(*sys.argv[1:])
