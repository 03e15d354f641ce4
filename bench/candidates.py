"""Who is compared, at which settings, and what came of each."""

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

from bench.child import Measured, measured

OURS = ("nmf", "nmf_fast", "nmf_accurate", "als", "ease", "item_knn", "svd", "popular")
METRICS = {"NDCG@10": "ndcg_at_10", "Recall@20": "recall_at_20", "HR@10": "hr_at_10", "coverage": "coverage_at_10"}

LIMIT = float(os.environ.get("RECSERVER_BENCH_LIMIT", "300"))
"""Seconds that one fit may take with everything around it. A grid ends after thrice as much."""

Setting = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One line of the table.

    Attributes:
        work: what to run in a child; one of :mod:`bench.peers`, or of :mod:`bench.methods` for our own.
        settings: of the grid. One without anything in it leaves ours to choose for themselves.
        python: interpreter of the child.
    """

    name: str
    work: str
    settings: Sequence[Setting] = ({},)
    python: str = sys.executable


def candidates() -> list[Candidate]:
    """All of ours as they are, those of one or two hyperparameters also tuned, and the others that are there."""
    grid = [{"k": k, "ratings": kind} for k, kind in product((32, 64), ("raw", "binary"))]
    found = [Candidate(name, "ours") for name in OURS]
    found.append(Candidate("ease, grid", "ours", _grid(regularization=(50.0, 150.0, 500.0, 1500.0))))
    found.append(Candidate("item_knn, grid", "ours", _grid(neighbors=(20, 100, 300), shrinkage=(10.0, 100.0))))
    found.append(Candidate("scikit-learn NMF, plain", "scikit_nmf", [{"k": 10, "ratings": "raw"}]))
    found.append(Candidate("scikit-learn NMF, grid", "scikit_nmf", grid))
    if find_spec("implicit"):
        found.append(Candidate("implicit ALS, grid", "implicit_als", _grid(
            factors=(64, 128), regularization=(3.0, 30.0, 100.0), alpha=(2.0, 10.0))))  # fmt: skip
    if python := lenskit():
        grid = _grid(embedding_size=(64, 128), regularization=(0.1, 1.0), weight=(2.0, 10.0, 40.0), epochs=(15,))
        found.append(Candidate("LensKit implicit MF, grid", "lenskit_mf", grid, python))
    return found


def lenskit() -> str | None:
    """The interpreter that has it: it does not go with the pandas that recserver needs."""
    return os.environ.get("RECSERVER_BENCH_LENSKIT") or (sys.executable if find_spec("lenskit") else None)


def _grid(**values: Sequence[float]) -> list[Setting]:
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


@dataclass(slots=True)
class Outcomes:
    """What came of a candidate: by setting, what was measured and how it ranks, once a seed."""

    found: dict[str, list[tuple[Measured, dict[str, Any]]]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    async def measure(self, candidate: Candidate, split: Path) -> None:
        """Try all settings on a split, in the order of the grid, while there is time."""
        spent = 0.0
        for number, setting in enumerate(candidate.settings):
            if spent > 3 * LIMIT:
                left = len(candidate.settings) - number
                self.troubles.append(f"{left} of {len(candidate.settings)} settings not tried: out of time")
                return
            text = json.dumps(setting)
            try:
                one, ranking = await _tried(candidate, split, text)
            except TimeoutError:
                self.troubles.append(f"no result in {LIMIT:g} s" + (f": {in_words(setting)}" if setting else ""))
                spent += LIMIT
                continue
            except RuntimeError as error:
                self.troubles.append(f"failed: {error}")
                continue
            spent += one.seconds
            if "refused" in ranking:
                self.troubles.append(ranking["refused"])
            else:
                self.found.setdefault(text, []).append((one, ranking))

    def row(self, candidate: Candidate) -> dict[str, object]:
        """Means of the metrics and medians of the rest, at the setting of the best mean NDCG."""
        said = "; ".join(dict.fromkeys(self.troubles))
        if not self.found:
            empty = dict.fromkeys((*METRICS, "s", "CPU s", "MiB"), float("nan"))
            return {"": candidate.name, **empty, "setting": said}
        means = {
            text: {name: mean(ranking[key] for _, ranking in tried) for name, key in METRICS.items()}
            for text, tried in self.found.items()
        }
        best = max(means, key=lambda text: means[text]["NDCG@10"])
        costs = [one for one, _ in self.found[best]]
        setting = _settings_in_words([ranking.get("setting", json.loads(best)) for _, ranking in self.found[best]])
        if len(candidate.settings) > 1:
            setting += f" (best of {len(self.found)} on the test pairs)"
        return {
            "": candidate.name,
            **means[best],
            "s": median(one.seconds for one in costs),
            "CPU s": median(one.cpu for one in costs),
            "MiB": median(one.peak for one in costs),
            "setting": f"{setting}; {said}" if said else setting,
        }


async def _tried(candidate: Candidate, split: Path, setting: str) -> tuple[Measured, dict[str, Any]]:
    if candidate.work == "ours":
        name = candidate.name.partition(",")[0]
        one = await measured("bench.methods:ours", split, name, setting, limit=LIMIT)
        return one, one.answer
    factors = split.with_name("factors.npz")
    work = f"bench.peers:{candidate.work}"
    one = await measured(work, split, factors, setting, limit=LIMIT, python=candidate.python)
    return one, (await measured("bench.methods:ranked", split, factors)).answer


def in_words(setting: Setting) -> str:
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in setting.items())  # fmt: skip


def _settings_in_words(settings: Sequence[Setting]) -> str:
    """Where seeds led to different choices, all of them."""
    return in_words({name: "/".join(dict.fromkeys(str(one[name]) for one in settings)) for name in settings[0]})
