"""The evaluation on a hold-out, against one that is written out slowly; and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recserver._internal.algorithms.evaluation import ranking_metrics as metrics
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.nmf.algorithm import nmf
from recserver._internal.algorithms.protocol import FitContext, FittedModel
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import TrainingFailed
from recserver._internal.training.jobs import Progress, TrainingJob
from recserver._internal.training.worker import train as training
from recserver._internal.training.worker.evaluate import evaluate
from tests.helpers.source_columns import batch, built, pairs

pytestmark = pytest.mark.slow

Row = tuple[str, str, float, int]  # user, item, rating, time


class ByHand:
    """An algorithm that learns nothing: every user and every item has the factors that a table says."""

    model_type, model_class = "nmf", "NMFRecommendationModel"
    default_params: Mapping[str, Any] = {}

    def __init__(self, factors: Mapping[str, list[float]] | None = None) -> None:
        self.factors = factors or {}
        self.learned: list[Interactions] = []

    def check(
        self, hyperparameters: Mapping[str, Any], *, ignore: Collection[str] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        return dict(hyperparameters), []

    def max_warm_starts(self, hyperparameters: Mapping[str, Any]) -> int:
        return 0

    def tune(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> dict[str, Any]:
        return {}

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        self.learned.append(interactions)
        users, items = (
            np.array([self.factors.get(one, [1.0]) for one in ids], np.float32)
            for ids in (interactions.users, interactions.items)
        )
        return FittedModel(users, items, dict(hyperparameters))


class Popular(ByHand):
    """An algorithm that recommends what is popular."""

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        users = np.ones((len(interactions.users), 1), np.float32)
        return FittedModel(users, interactions.item_counts().astype(np.float32).reshape(-1, 1), {})


class Broken(ByHand):
    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        raise TrainingFailed("There is nothing to learn.")


def of(rows: list[Row]) -> Interactions:
    users, items, ratings, times = (list(one) for one in zip(*rows, strict=True))
    columns = batch(user_id=users, item_id=items, rating=ratings, at=times)
    return built(columns, timestamp_column="at")[0]


def some(seed: int, users: int = 25, items: int = 60) -> list[Row]:
    """Random rows, each at a time of its own, some of them dislikes; popular items are most users'."""
    random = np.random.default_rng(seed)
    wanted = 1 / np.arange(1, items + 1)
    rows = []
    for user in range(users):
        own = random.choice(items, random.integers(1, 31), replace=False, p=wanted / wanted.sum())
        rows += [(f"u{user}", f"i{item}", float(random.choice([-1, 0, 1, 5]))) for item in own]
    return [(*row, int(time)) for row, time in zip(rows, random.permutation(len(rows)), strict=True)]


def slowly(rows: list[Row], score: Any) -> dict[str, float]:
    """The metrics of a ranking by ``score(user, item)``, with dictionaries, as their definitions say."""
    of_user: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row[3]):
        of_user.setdefault(row[0], []).append(row)
    known, liked = {}, {}
    for user, own in of_user.items():
        number = 0 if len(own) == 1 else max(1, math.floor(len(own) / 5 + 0.5))
        known[user] = {item for _, item, _, _ in own[: len(own) - number]}
        liked[user] = {item for _, item, rating, _ in own[len(own) - number :] if rating > 0}
    catalogue = sorted(set().union(*known.values()))
    counts = {item: sum(item in one for one in known.values()) for item in catalogue}
    if score is None:
        score = lambda _, item: counts[item]  # noqa: E731
    found: dict[str, list[float]] = {"ndcg_at_10": [], "recall_at_20": [], "hr_at_10": []}
    shown = set()
    for user in (user for user in of_user if liked[user]):
        left = sorted(set(catalogue) - known[user], key=lambda item: (-score(user, item), item))
        gain = sum(1 / math.log2(rank + 2) for rank, item in enumerate(left[:10]) if item in liked[user])
        ideal = sum(1 / math.log2(rank + 2) for rank in range(min(10, len(liked[user]))))
        found["ndcg_at_10"].append(gain / ideal)
        found["recall_at_20"].append(len(liked[user] & set(left[:20])) / len(liked[user]))
        found["hr_at_10"].append(float(bool(liked[user] & set(left[:10]))))
        shown |= set(left[:10])
    means = {name: sum(values) / len(values) for name, values in found.items()}
    return means | {"coverage_at_10": len(shown) / len(catalogue), "evaluated_users": len(found["hr_at_10"])}


@pytest.mark.parametrize("cells", [1, 200, 2**22])
@pytest.mark.parametrize("seed", range(8))
def test_the_metrics_are_those_of_their_definitions(
    seed: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fits into memory at once. Few different scores, so that ties are everywhere."""
    monkeypatch.setattr(metrics, "BLOCK_CELLS", cells)
    rows, random = some(seed), np.random.default_rng(seed)
    factors = {one: random.integers(0, 3, 2).tolist() for row in rows for one in row[:2]}
    found = evaluate(ByHand(factors), {}, of(rows))
    model = slowly(rows, lambda user, item: np.dot(factors[user], factors[item]))
    popular = slowly(rows, None)
    users = popular.pop("evaluated_users")
    expected = model | {f"popularity_{name}": value for name, value in popular.items()}
    assert found.metrics == pytest.approx(expected | {"split_by_time": True})
    assert found.metrics["split_by_time"] is True
    assert 10 < users == found.metrics["evaluated_users"]
    assert 0 < expected["ndcg_at_10"] != expected["popularity_ndcg_at_10"]
    assert found.warnings == ()


def test_one_ranking_by_hand() -> None:
    """Held out are c and e of ten; the model says c, d, e, and popularity (all once, by id) c, d, e, f as well."""
    known = [("u", item, 1.0, time) for time, item in enumerate("abfghijk")]
    rows: list[Row] = [*known, ("u", "c", 1.0, 90), ("u", "e", 1.0, 91), ("v", "c", 1.0, 0), ("w", "d", 1.0, 0),
                       ("x", "e", 1.0, 0)]  # fmt: skip
    scores = {"c": [3.0], "d": [2.0], "e": [1.5], "a": [9.0]}
    found = evaluate(ByHand(scores), {}, of(rows)).metrics
    assert found["evaluated_users"] == 1
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / 2) / (1 + 1 / math.log2(3)))
    assert found["popularity_ndcg_at_10"] == found["ndcg_at_10"]
    assert (found["recall_at_20"], found["hr_at_10"]) == (1, 1)
    assert found["coverage_at_10"] == pytest.approx(3 / 11)


def test_an_item_that_nobody_else_has_can_only_be_missed() -> None:
    rows: list[Row] = [("u", "a", 1, 1), ("u", "b", 1, 2), ("u", "new", 1, 3), ("v", "c", 1, 1)]
    found = evaluate(ByHand({"new": [9.0]}), {}, of(rows)).metrics
    assert [found[name] for name in ("evaluated_users", "ndcg_at_10", "recall_at_20", "hr_at_10")] == [1, 0, 0, 0]
    assert found["coverage_at_10"] == pytest.approx(1 / 3)


def test_without_a_user_who_has_two_pairs_nothing_is_fitted_and_nothing_said() -> None:
    method = ByHand()
    found = evaluate(method, {}, of([("u", "a", 1, 1), ("v", "b", 1, 2)]))
    assert (found.metrics, found.warnings, method.learned) == ({"evaluated_users": 0}, (), [])


def test_a_part_that_cannot_be_learned_from_is_a_warning() -> None:
    found = evaluate(Broken(), {}, of(some(0)))
    assert found.metrics == {"evaluated_users": 0}
    assert found.warnings == (
        "The model could not be evaluated on a part of its data: There is nothing to learn.",
    )
    infinite = evaluate(ByHand({"i0": [float("inf")]}), {}, of(some(0)))
    assert infinite.metrics == {"evaluated_users": 0}
    assert infinite.warnings[0].startswith(
        "The model could not be evaluated on a part of its data: The fit ended in values that are not finite: "
    )


def groups(users: int) -> tuple[list[Row], dict[str, list[float]]]:
    """Two kinds of people, who take items of their kind in any order; and factors that tell the kinds apart."""
    rows: list[Row] = []
    for user in range(users):
        order = np.random.default_rng(user).permutation(12)
        rows += [(f"u{user}", f"{'ab'[user % 2]}{item}", 1.0, time) for time, item in enumerate(order[:6])]
    kinds = {row[0]: [1.0, 0.0] if row[1][0] == "a" else [0.0, 1.0] for row in rows}
    return rows, kinds | {row[1]: kinds[row[0]] for row in rows}


def test_a_model_no_better_than_popularity_is_told_of_where_enough_users_say_so() -> None:
    rows, kinds = groups(50)
    better = evaluate(ByHand(kinds), {}, of(rows))
    assert better.metrics["ndcg_at_10"] > better.metrics["popularity_ndcg_at_10"]
    assert better.warnings == ()
    equal = evaluate(Popular(), {}, of(rows))
    figure = f"{equal.metrics['ndcg_at_10']:.4f}"
    assert equal.warnings == (
        "For 50 evaluated users the model is no better than recommending the most popular items "
        f"(ndcg_at_10 {figure} against {figure}): check that the data chef's columns are the right ones, or try "
        "other hyperparameters, n_components first.",
    )
    assert evaluate(Popular(), {}, of(groups(49)[0])).warnings == ()


def test_nmf_predicts_the_items_of_the_clusters_it_learned() -> None:
    """A real fit on data whose structure popularity cannot know."""
    found = evaluate(nmf, {"n_components": 2}, of(groups(60)[0]))
    assert found.metrics["ndcg_at_10"] > 1.2 * found.metrics["popularity_ndcg_at_10"]
    assert found == evaluate(nmf, {"n_components": 2}, of(groups(60)[0]))


def job(folder: Path, rows: str, **entry: Any) -> TrainingJob:
    (folder / "rows.csv").write_text(rows)
    return TrainingJob(
        model_id="m", model_version=1, algorithm="nmf", hyperparameters={}, data_chef_id="c",
        data_chef={"type": "csv", "path": "rows.csv", **entry}, policy=SourcePolicy(data_dir=folder),
        out=folder / "m.tmp",
    )  # fmt: skip


@pytest.mark.parametrize("entry", [{"timestamp_column": "at"}, {}], ids=["by time", "at random"])
def test_a_training_evaluates_on_a_part_and_then_learns_from_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: dict[str, str]
) -> None:
    rows = some(1)
    lines = [f"{user},{item},{rating},{time}" for user, item, rating, time in rows]
    method, seen = ByHand(), list[Progress]()
    monkeypatch.setattr(training, "load_algorithm", lambda _: method)
    result = training.train(job(tmp_path, "\n".join(["user_id,item_id,rating,at", *lines]), **entry), seen.append)
    part, everything = method.learned
    assert everything.n_pairs == len(rows) == result.model_metrics["n_interactions"]
    assert set(pairs(part)) < set(pairs(everything))
    assert list(dict.fromkeys(one.stage for one in seen)) == ["reading", "evaluating", "fitting", "packing"]
    assert result.data_report is not None
    assert list(result.data_report.seconds) == ["reading", "building", "evaluating", "fitting", "packing"]
    measured = evaluate(ByHand(), {}, everything).metrics
    assert measured["split_by_time"] is bool(entry)
    assert {name: result.model_metrics[name] for name in measured} == measured
    assert all(isinstance(value, int | float) for value in measured.values())


def test_what_the_evaluation_has_to_say_is_among_the_trainings_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "load_algorithm", lambda _: Popular())
    lines = [f"{user},{item}" for user, item, _, _ in groups(60)[0]]
    result = training.train(job(tmp_path, "\n".join(["user_id,item_id", *lines])), lambda _: None)
    (warning,) = result.warnings
    assert warning.startswith("For 60 evaluated users the model is no better than")
