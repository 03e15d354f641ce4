"""How long a model of 1,000,000 items x 64 takes until its first answer, and what memory, beside joblib."""

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

from bench.models import write_model
from bench.report import report
from recserver.algorithms.top_n import top_n
from recserver.core.events import EventBus
from recserver.recommend.model.loading import load_model
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.pipeline import recommend
from recserver.recommend.query import Query
from recserver.registry.model_cache import ModelCache
from recserver.registry.model_store import ModelStore
from recserver.storage import model_file as artifact
from recserver.storage.model_file.id_table import IdIndex

USERS, ITEMS, K = 10_000, int(os.environ.get("RECSERVER_BENCH_ITEMS", "1_000_000")), 64
ROUNDS = int(os.environ.get("RECSERVER_BENCH_ROUNDS", "5"))
LISTED = 1_000
"""Models in a folder that is listed."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of loading: the process's work, and which file it is given."""

    load: Callable[[Path], object]
    file: str
    anew: bool = False
    """Whether the snapshot is made, rather than found."""


def _with_joblib(path: Path, mmap_mode: str | None = None) -> object:
    """Trusts the file: nothing is checked. Answers with the same arithmetic."""
    arrays = joblib.load(path, mmap_mode=mmap_mode)
    users = IdIndex(arrays["user_text"], arrays["user_offsets"], checked=True)
    top_n(arrays["user_factors"][users.find("u00000001")] @ arrays["item_factors"], 10)
    return arrays


def _answering(recommender: Recommender) -> object:
    recommend(recommender, "u00000001", Query())
    return recommender


WAYS = {
    "joblib.load": Way(_with_joblib, "joblib"),
    "joblib.load, mapped": Way(lambda path: _with_joblib(path, "r"), "joblib"),
    "read and checked": Way(lambda path: _answering(Recommender.from_artifact(artifact.load(path))), "pkl"),
    "open_packed, first": Way(lambda path: _answering(load_model(path)[1]), "pkl", anew=True),
    "open_packed, again": Way(lambda path: _answering(load_model(path)[1]), "pkl"),
}


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "bench.pkl", USERS, ITEMS, K)
        joblib.dump(artifact.load(folder / "bench.pkl").arrays, folder / "bench.joblib")
        size = f"{(folder / 'bench.pkl').stat().st_size / 2**20:,.0f} MiB"
        for processes in (1, 4):
            for cold in (False, True):
                await _compare(folder, processes, cold, f"{ITEMS:,} items x {K}, {size}")
    await _list()


async def _compare(folder: Path, processes: int, cold: bool, what: str) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    memory: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, way in WAYS.items():
            took, used = await _measured(folder, name, way, processes, cold)
            seconds[name].append(took)
            memory[name].append(used)
    title = f"loading {processes} {'cold' if cold else 'warm'}"
    note = "from the call to the first answer, the slowest process; imports are not counted; joblib checks nothing"
    report(f"{title}: {what}, {processes} at once", "s", seconds, note)
    note = "proportional set size of all processes together, less what they had before"
    report(f"{title} memory: {what}, {processes} at once", "MiB", memory, note)


async def _measured(folder: Path, name: str, way: Way, processes: int, cold: bool) -> tuple[float, float]:
    """Seconds of the slowest of some processes that load at the same time, and MiB of all together."""
    await asyncio.to_thread(_prepare, folder, anew=way.anew, cold=cold)
    file = folder / f"bench.{way.file}"
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.loading", name, file, stdin=PIPE, stdout=PIPE,
            env={**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        for _ in range(processes)
    ]  # fmt: skip
    for one in started:
        await one.stdout.readline()  # its imports are done
    before = sum(_proportional(one.pid) for one in started)
    for one in started:
        one.stdin.write(b"\n")
    took = [float(await one.stdout.readline()) for one in started]
    used = sum(_proportional(one.pid) for one in started) - before
    for one in started:
        await one.communicate(b"\n")
    return max(took), used


def _prepare(folder: Path, *, anew: bool, cold: bool) -> None:
    """Remove the snapshots made before, if ``anew``; take all files out of the page cache, if ``cold``."""
    snapshots = list(folder.glob("recserver-*/*"))
    for one in snapshots if anew else ():
        one.unlink()
    for one in (folder / "bench.pkl", folder / "bench.joblib", *([] if anew else snapshots)) if cold else ():
        _drop_from_cache(one)


def _drop_from_cache(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def _proportional(pid: int) -> float:
    """MiB of a process, what it shares with others divided by their number."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(one.split()[1]) for one in lines if one.startswith("Pss:")) / 2**10


async def _list() -> None:
    """What is known of many models: by loading each, as it was, by a first look, and by looking again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "m0.pkl", 1_000, 2_000, 32)
        for number in range(LISTED):
            (folder / f"m{number}_config.json").write_text('{"algorithm": "nmf", "status": "completed"}')
            if number:
                (folder / f"m{number}.pkl").write_bytes((folder / "m0.pkl").read_bytes())
        found: dict[str, list[float]] = {"loading each": [], "first look": [], "looking again": []}
        for _ in range(min(3, ROUNDS)):
            store = ModelStore(folder)
            loading, looking = ModelCache(store, EventBus()), ModelCache(store, EventBus())
            for how, asked in zip(
                found,
                (loading.unavailable_reason, looking.quick_unavailable_reason, looking.quick_unavailable_reason),
                strict=True,
            ):
                start = time.perf_counter()
                reasons = [await asked(model) for model in await store.read_all()]
                found[how].append(time.perf_counter() - start)
                assert reasons == [None] * LISTED
        assert statistics.median(found["looking again"]) > 0
    report(f"loading list: {LISTED:,} trained models, all about them", "s", found)


def _child(name: str, path: str) -> None:
    way = WAYS[name]
    np.ones(2) @ np.ones(2)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    model = way.load(Path(path))
    print(time.perf_counter() - start, flush=True)
    sys.stdin.readline()
    del model


if __name__ == "__main__":
    _child(*sys.argv[1:])
