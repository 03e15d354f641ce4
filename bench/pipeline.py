"""A training through the server, compared with direct calls of the same functions in one process."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from bench.report import measure_round_robin, report
from bench.splits import training_job
from recserver import RecServer, Settings
from recserver._internal.core.events import RunEnded
from recserver._internal.training.ingest.source_reader import collect
from recserver._internal.training.worker.train import train

USERS, ITEMS, ROWS = 5_000, 2_000, 300_000


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        _write_rows(data / "rows.csv")
        async with RecServer(data, Settings(port=0)) as server:
            await server.create_data_chef_from_csv("c", file_path="rows.csv")

            async def through_the_server() -> float:
                start = time.perf_counter()
                hyperparameters = {"n_components": 16, "max_iter": 20}
                with server.events.listen() as events:
                    await server.create_model(
                        "m", algorithm="nmf", hyperparameters=hyperparameters, overwrite=True
                    )
                    await server.add_model_task("t", model_id="m", data_chef_id="c", interval=3600, overwrite=True)
                    ended = await events.next(RunEnded)
                assert ended.outcome == "completed", ended
                return time.perf_counter() - start

            hyperparameters = {"n_components": 16, "solver": "mu", "max_iter": 20}
            job = training_job(data / "rows.csv", hyperparameters=hyperparameters, out=data / ".bench.tmp")

            async def in_one_process() -> float:
                job.out.unlink(missing_ok=True)
                start = time.perf_counter()
                train(job, lambda _: None)
                return time.perf_counter() - start

            async def reading() -> float:
                start = time.perf_counter()
                collect(job, lambda _: None)
                return time.perf_counter() - start

            await in_one_process()  # warm-up: imports are not timed; a reused worker process has them as well
            await through_the_server()
            measures = {
                "train() in one process": in_one_process,
                "of which reading": reading,
                "through the server": through_the_server,
            }
            seconds = await measure_round_robin(5, measures)
    report(f"pipeline: training on {ROWS:,} rows of CSV, nmf k=16, 20 iterations", "s", seconds)


def _write_rows(path: Path) -> None:
    random = np.random.default_rng(0)
    users, items = random.integers(0, USERS, ROWS), (random.random(ROWS) ** 2 * ITEMS).astype(int)
    ratings = random.integers(1, 6, ROWS)
    rows = "\n".join(f"u{user},i{item},{rating}" for user, item, rating in zip(users, items, ratings, strict=True))
    path.write_text(f"user_id,item_id,rating\n{rows}\n")
