"""Algorithms side by side: what is said of them, and what one that dies or breaks costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recserver._internal.algorithms.evaluation.splitting import Holdout, hold_out
from recserver._internal.training.algorithm_comparison import (
    CandidateOutcome,
    applicable_algorithms,
    compare,
    conclusions,
)
from recserver._internal.training.jobs import CandidateResult, Progress
from recserver._internal.training.worker.evaluate import popularity_metrics
from recserver._internal.training.worker.evaluate_candidate import load_holdout, peak_megabytes, save_holdout
from recserver.testing._algorithm_under_test import clustered_rows, interactions_of

pytestmark = pytest.mark.process

BASELINE = {"ndcg_at_10": 0.1}

TOYS = """\
import os
from recserver._internal.algorithms.popular import Popular

class Dying(Popular):
    def tune(self, interactions, hyperparameters, context):
        os.kill(os.getpid(), 9)

class Broken(Popular):
    def tune(self, interactions, hyperparameters, context):
        print("not an answer")
        raise KeyError("rank")

class Chatty(Popular):
    def fit(self, interactions, hyperparameters, context):
        print("not an answer")
        context.on_iteration(1, 2, 0.5)
        return super().fit(interactions, hyperparameters, context)

dying, broken, chatty = Dying(), Broken(), Chatty()
"""


def row(name: str, ndcg: float, seconds: float) -> CandidateOutcome:
    metrics = {"ndcg_at_10": ndcg}
    return CandidateOutcome(
        name, CandidateResult(metrics=metrics, hyperparameters={}, seconds=seconds, peak_mb=1.0)
    )


def held_out() -> Holdout:
    holdout = hold_out(interactions_of(clustered_rows()))
    assert holdout is not None
    return holdout


def test_the_best_is_named_and_whatever_is_nearly_as_good_and_much_quicker() -> None:
    rows = [row("als", 0.298, 4.0), row("nmf", 0.3, 12.0), row("svd", 0.2969, 1.0), row("ease", 0.299, 4.1)]
    assert conclusions(rows, BASELINE, 50) == [
        "Best: nmf (NDCG@10 0.3000).",
        "als is within 1 % of that (0.2980) and took 4.0 s instead of 12.0 s.",
    ]
    assert conclusions([*rows, CandidateOutcome("popular", error="It failed.")], BASELINE, 50) == conclusions(
        rows, BASELINE, 50
    )
    assert conclusions([CandidateOutcome("nmf", error="It failed.")], BASELINE, 50) == []


def test_what_speaks_against_the_best_is_said() -> None:
    _, worse, few = conclusions([row("nmf", 0.1, 1.0)], BASELINE, 49)
    assert worse.startswith("That is not better than popular items (0.1000)")
    assert few == "Only 49 users were evaluated: with fewer than 50 the order may be chance."
    assert len(conclusions([row("popular", 0.1, 1.0)], BASELINE, 50)) == 1


def test_a_holdout_is_the_same_in_another_process(tmp_path: Path) -> None:
    holdout = held_out()
    save_holdout(holdout, tmp_path / "one.npz")
    again = load_holdout(tmp_path / "one.npz")
    assert popularity_metrics(again) == popularity_metrics(holdout)
    assert (again.training.users, again.training.items) == (holdout.training.users, holdout.training.items)
    for name in ("indptr", "indices", "ratings"):
        was, now = getattr(holdout.training, name), getattr(again.training, name)
        assert np.array_equal(was, now) and was.dtype == now.dtype
    assert (again.by_time, again.training.times, again.training.weighted) == (False, None, False)


def test_one_that_dies_or_breaks_costs_its_own_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "recserver_toys-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: recserver-toys\nVersion: 1.0\n")
    names = "dying", "broken", "chatty"
    points = "\n".join(f"{name} = recserver_toys:{name}" for name in names)
    (about / "entry_points.txt").write_text(f"[recserver.algorithms]\n{points}\n")
    (tmp_path / "recserver_toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(tmp_path)
    told: list[tuple[str, Progress]] = []
    rows = compare(held_out(), {name: {} for name in names}, 1, lambda name, one: told.append((name, one)))
    assert [one.algorithm for one in rows] == list(names)
    assert rows[0].error == (
        "The worker process was killed by signal 9 before the candidate ended; signal 9 often means that the "
        "machine ran out of memory."
    )
    assert rows[1].error == "broken failed with an internal error (KeyError: 'rank'): report it to its authors."
    assert rows[2].result is not None and rows[2].result.metrics == popularity_metrics(held_out())
    assert ("chatty", 1) in [(name, one.iteration) for name, one in told]


def test_ease_is_left_out_where_it_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    interactions = interactions_of(clustered_rows())
    assert "ease" in applicable_algorithms(interactions)[0]
    monkeypatch.setattr("recserver._internal.algorithms.ease.MAX_ITEMS", 100)
    names, said = applicable_algorithms(interactions)
    assert "ease" not in names and said == ["ease is left out: it takes at most 100 items, not 160."]


def test_the_system_tells_how_large_a_process_was() -> None:
    before = peak_megabytes()
    assert before is not None and 20 < before < 4000
    held = np.ones(2**25)
    after = peak_megabytes()
    assert after is not None and after >= held.nbytes / 2**20
