"""The algorithms that are compared, the hyperparameter grid of each, and their results."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.fresh_process import Measurement, measure_in_process

BUILTIN = ("nmf", "nmf_fast", "nmf_accurate", "als", "ease", "item_knn", "svd", "popular")
METRICS = {"NDCG@10": "ndcg_at_10", "Recall@20": "recall_at_20", "HR@10": "hr_at_10", "coverage": "coverage_at_10"}

LIMIT = float(os.environ.get("RECSERVER_BENCH_LIMIT", "300"))
"""The time limit of one fit in seconds, its setup included. A grid search ends after three times as long."""

Setting = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ComparedAlgorithm:
    """One row of the table.

    Attributes:
        function: of :mod:`bench.other_libraries`; None for an algorithm of recserver.
        grid: the settings to try. An empty setting leaves the hyperparameters to recserver's own tuning.
        python: the interpreter to run.
    """

    name: str
    function: str | None = None
    grid: Sequence[Setting] = ({},)
    python: str = sys.executable


def compared_algorithms() -> list[ComparedAlgorithm]:
    """All algorithms of recserver, two of them also by grid search, and the installed libraries."""
    algorithms = [ComparedAlgorithm(name) for name in BUILTIN]
    algorithms.append(ComparedAlgorithm("ease, grid", None, _grid(regularization=(50.0, 150.0, 500.0, 1500.0))))
    grid = _grid(neighbors=(20, 100, 300), shrinkage=(10.0, 100.0))
    algorithms.append(ComparedAlgorithm("item_knn, grid", None, grid))
    algorithms.append(ComparedAlgorithm("scikit-learn NMF, plain", "scikit_nmf", [{"k": 10, "ratings": "raw"}]))
    grid = _grid(k=(32, 64), ratings=("raw", "binary"))
    algorithms.append(ComparedAlgorithm("scikit-learn NMF, grid", "scikit_nmf", grid))
    if find_spec("implicit"):
        grid = _grid(factors=(64, 128), regularization=(3.0, 30.0, 100.0), alpha=(2.0, 10.0))
        algorithms.append(ComparedAlgorithm("implicit ALS, grid", "implicit_als", grid))
    if python := lenskit_python():
        grid = _grid(embedding_size=(64, 128), regularization=(0.1, 1.0), weight=(2.0, 10.0, 40.0), epochs=(15,))
        algorithms.append(ComparedAlgorithm("LensKit implicit MF, grid", "lenskit_mf", grid, python))
    return algorithms


def lenskit_python() -> str | None:
    """The interpreter that has LensKit, which needs an older pandas than recserver."""
    return os.environ.get("RECSERVER_BENCH_LENSKIT") or (sys.executable if find_spec("lenskit") else None)


def _grid(**values: Sequence[object]) -> list[Setting]:
    return [dict(zip(values, setting, strict=True)) for setting in product(*values.values())]


@dataclass(slots=True)
class GridResults:
    """The results of one algorithm: by setting, the cost and the ranking metrics of one fit for each seed."""

    fits: dict[str, list[tuple[Measurement, dict[str, Any]]]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    async def measure(self, algorithm: ComparedAlgorithm, split: Path) -> None:
        """Fit every setting of the grid to a split, within the time limit."""
        elapsed = 0.0
        for number, setting in enumerate(algorithm.grid):
            if elapsed > 3 * LIMIT:
                n_settings = len(algorithm.grid)
                self.errors.append(f"{n_settings - number} of {n_settings} settings not tried: out of time")
                return
            setting_json = json.dumps(setting)
            try:
                fit, metrics = await _fit(algorithm, split, setting_json)
            except TimeoutError:
                self.errors.append(
                    f"no result in {LIMIT:g} s" + (f": {format_setting(setting)}" if setting else "")
                )
                elapsed += LIMIT
                continue
            except RuntimeError as error:
                self.errors.append(f"failed: {error}")
                continue
            elapsed += fit.seconds
            if "error" in metrics:
                self.errors.append(metrics["error"])
            else:
                self.fits.setdefault(setting_json, []).append((fit, metrics))

    def row(self, algorithm: ComparedAlgorithm) -> dict[str, object]:
        """Means of the metrics and medians of the costs, at the setting with the best mean NDCG."""
        errors = "; ".join(dict.fromkeys(self.errors))
        if not self.fits:
            empty = dict.fromkeys((*METRICS, "s", "CPU s", "MiB"), float("nan"))
            return {"": algorithm.name, **empty, "setting": errors}
        means = {
            setting: {name: mean(metrics[key] for _, metrics in fits) for name, key in METRICS.items()}
            for setting, fits in self.fits.items()
        }
        best = max(means, key=lambda setting: means[setting]["NDCG@10"])
        costs = [fit for fit, _ in self.fits[best]]
        setting = _format_settings([metrics.get("setting", json.loads(best)) for _, metrics in self.fits[best]])
        if len(algorithm.grid) > 1:
            setting += f" (best of {len(self.fits)} on the test pairs)"
        return {
            "": algorithm.name,
            **means[best],
            "s": median(cost.seconds for cost in costs),
            "CPU s": median(cost.cpu for cost in costs),
            "MiB": median(cost.peak for cost in costs),
            "setting": f"{setting}; {errors}" if errors else setting,
        }


async def _fit(algorithm: ComparedAlgorithm, split: Path, setting: str) -> tuple[Measurement, dict[str, Any]]:
    if algorithm.function is None:
        name = algorithm.name.partition(",")[0]
        fit = await measure_in_process(
            "bench.recserver_algorithms:fit_and_rank", split, name, setting, limit=LIMIT
        )
        return fit, fit.result
    factors = split.with_name("factors.npz")
    function = f"bench.other_libraries:{algorithm.function}"
    fit = await measure_in_process(function, split, factors, setting, limit=LIMIT, python=algorithm.python)
    return fit, (await measure_in_process("bench.recserver_algorithms:rank_factors", split, factors)).result


def format_setting(setting: Setting) -> str:
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in setting.items())  # fmt: skip


def _format_settings(settings: Sequence[Setting]) -> str:
    """One text for the settings of all seeds; different values of one hyperparameter are separated by slashes."""
    return format_setting(
        {name: "/".join(dict.fromkeys(str(setting[name]) for setting in settings)) for name in settings[0]}
    )
