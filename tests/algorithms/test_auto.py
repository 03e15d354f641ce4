"""auto: which algorithm it selects, which it skips for lack of time, and that it fits exactly the selected one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recserver._internal.algorithms.auto import search as auto_search
from recserver._internal.algorithms.auto.algorithm import auto
from recserver._internal.algorithms.auto.params import AutoParams
from recserver._internal.algorithms.auto.search import select_algorithm, typical_seconds
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.lookup import ALGORITHM_PATHS, load_algorithm
from recserver._internal.algorithms.protocol import FitContext
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.clock import SystemClock
from recserver._internal.core.errors import InvalidInput, TrainingFailed
from recserver._internal.training.jobs import TrainingJob
from recserver._internal.training.worker.evaluate import evaluate
from recserver._internal.training.worker.train import train
from recserver.testing._algorithm_under_test import clustered_rows, first_difference, interactions_of, random_rows

pytestmark = pytest.mark.slow

PLAIN = interactions_of(clustered_rows())


class ScriptedClock(SystemClock):
    """A clock on which each comparison takes a hyperparameters number of seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> None:
        self.now_at, self.compared = 0.0, list[str]()
        compare = auto_search._compare

        def timed(name: str, *arguments: Any) -> None:
            compare(name, *arguments)
            self.compared.append(name)
            self.now_at += seconds.get(name, 1.0)

        monkeypatch.setattr(auto_search, "_compare", timed)
        monkeypatch.setattr(auto_search, "typical_seconds", lambda name, _: TYPICAL[name])

    def monotonic(self) -> float:
        return self.now_at


TYPICAL = {"popular": 1.0, "item_knn": 2.0, "svd": 3.0, "ease": 40.0, "nmf": 50.0}


def selected(clock: ScriptedClock, budget: float, interactions: Interactions = PLAIN) -> dict[str, Any]:
    return select_algorithm(
        interactions, AutoParams(algorithms=list(TYPICAL), time_budget=budget), FitContext(), clock
    )


def test_the_best_algorithm_is_selected_and_fitted_unchanged() -> None:
    selection = auto.tune(PLAIN, {"algorithms": ["popular", "item_knn", "svd"]}, FitContext())
    assert set(selection["compared"]) == {"popular", "item_knn", "svd"}
    best = max(selection["compared"], key=selection["compared"].__getitem__)
    assert selection["algorithm"] == best != "popular"
    model = auto.fit(PLAIN, selection, FitContext())
    algorithm = load_algorithm(best)
    direct = algorithm.fit(PLAIN, {**algorithm.default_params, **selection["hyperparameters"]}, FitContext())
    assert first_difference(model, direct) == "hyperparameters"  # and in no field before it
    assert model.hyperparameters["hyperparameters"] == direct.hyperparameters
    assert model.hyperparameters["algorithm"] == model.metrics["chosen_algorithm"] == best
    assert model.warnings == direct.warnings


def test_hyperparameters_of_candidates_are_tuned() -> None:
    selection = auto.tune(PLAIN, {"algorithms": ["nmf"]}, FitContext())
    assert set(selection["hyperparameters"]) == {"regularization", "blend"}
    used = auto.fit(PLAIN, selection, FitContext()).hyperparameters["hyperparameters"]
    assert {name: used[name] for name in ("regularization", "blend")} == selection["hyperparameters"]


def test_a_fixed_algorithm_is_fitted_reproducibly() -> None:
    hyperparameters = {"algorithm": "svd", "hyperparameters": {"n_components": 5}, "random_state": 7}
    assert auto.tune(PLAIN, hyperparameters, FitContext()) == {}
    one, again = (auto.fit(PLAIN, hyperparameters, FitContext()) for _ in range(2))
    assert first_difference(one, again) is None
    assert one.hyperparameters["hyperparameters"]["random_state"] == 7
    assert one.users.shape[1] == 5


def test_cheapest_algorithms_run_first_and_too_slow_ones_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ScriptedClock(monkeypatch, {"popular": 2.0, "item_knn": 4.0, "svd": 6.0})  # half the typical speed
    selection = selected(clock, 80.0)
    assert clock.compared == ["popular", "item_knn", "svd"]
    assert selection["notes"] == [
        "ease was not compared: it would take about 74.3 seconds, and only 68 of the time_budget of 80 were left.",
        "nmf was not compared: it would take about 92.9 seconds, and only 68 of the time_budget of 80 were left.",
    ]
    assert auto.fit(PLAIN, selection, FitContext()).warnings[:2] == tuple(selection["notes"])


def test_a_fast_machine_compares_more_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ScriptedClock(monkeypatch, {name: seconds / 4 for name, seconds in TYPICAL.items()})
    assert selected(clock, 30.0)["notes"] == []
    assert clock.compared == list(TYPICAL)


def test_without_time_for_any_the_cheapest_is_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ScriptedClock(monkeypatch, {})
    selection = selected(clock, 0.5)
    assert (clock.compared, selection["algorithm"], selection["compared"]) == ([], "popular", {})
    assert (
        selection["notes"][-1] == "popular was selected as the cheapest: raise time_budget to compare algorithms."
    )


def test_a_comparison_ends_at_the_deadline() -> None:
    class FastClock(SystemClock):
        reads = 0.0

        def monotonic(self) -> float:
            self.reads += 1
            return self.reads

    params = AutoParams(algorithms=["popular", "als"], time_budget=8)
    selection = select_algorithm(PLAIN, params, FitContext(), FastClock())
    assert selection["algorithm"] == "popular"
    assert selection["notes"] == ["als was not compared: it did not end within the time_budget."]


def test_an_algorithm_that_fails_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recserver._internal.algorithms.ease.MAX_ITEMS", 10)
    selection = auto.tune(PLAIN, {"algorithms": ["ease", "item_knn"]}, FitContext())
    assert selection["algorithm"] == "item_knn"
    (note,) = selection["notes"]
    assert note.startswith("ease was not compared: ease needs memory for the square of the catalogue")


def test_few_data_are_not_compared() -> None:
    few = interactions_of(random_rows(8, 6))
    assert auto.tune(few, {"algorithms": ["svd", "als"]}, FitContext()) == {}
    model = auto.fit(few, {"algorithms": ["svd", "als"]}, FitContext())
    assert model.metrics["chosen_algorithm"] == "svd"
    assert model.warnings[0] == "svd was fitted, the first of algorithms: there are too few data to compare them."


def test_an_evaluation_returns_the_selection() -> None:
    selection = evaluate(auto, {"algorithms": ["popular", "item_knn"]}, PLAIN)
    assert selection.tuned["algorithm"] == "item_knn"
    assert selection.metrics["ndcg_at_10"] > selection.metrics["popularity_ndcg_at_10"]


def test_data_without_positive_ratings_raise_training_failed() -> None:
    with pytest.raises(TrainingFailed, match="zero or negative"):
        auto.fit(interactions_of([(0, 0, 0.0), (1, 1, 0.0)]), {}, FitContext())


@pytest.mark.parametrize(
    ("hyperparameters", "sentence"),
    [
        ({"algorithms": ["alss"]}, "'alss' is not a candidate: use some of nmf, "),
        ({"algorithms": ["auto"]}, "'auto' is not a candidate"),
        ({"algorithms": []}, "hyperparameters.algorithms"),
        ({"time_budget": 0}, "hyperparameters.time_budget"),
        ({"hyperparameters": {}}, "hyperparameters.hyperparameters: needs algorithm: they are"),
        (
            {"algorithm": "als", "hyperparameters": {"k": 1}},
            "k: is not a hyperparameter of this algorithm; known are n_components",
        ),
    ],
)
def test_invalid_hyperparameters_are_rejected(hyperparameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        auto.check(hyperparameters)
    assert sentence in str(raised.value)


def test_every_algorithm_has_a_typical_time() -> None:
    assert all(typical_seconds(name, PLAIN) > 0 for name in ALGORITHM_PATHS if name != "auto")


def test_a_training_reports_the_selection(tmp_path: Path) -> None:
    lines = [f"u{user},i{item},{rating}" for user, item, rating in clustered_rows()]
    (tmp_path / "rows.csv").write_text("\n".join(["user_id,item_id,rating", *lines]))
    job = TrainingJob(
        model_id="m", model_version=1, algorithm="auto", hyperparameters={"algorithms": ["popular", "item_knn"]},
        data_chef_id="c", data_chef={"type": "csv", "path": "rows.csv"}, policy=SourcePolicy(data_dir=tmp_path),
        out=tmp_path / "m.tmp",
    )  # fmt: skip
    result = train(job, lambda _: None)
    assert result.model_type == "AutoRecommendationModel"
    assert result.model_metrics["chosen_algorithm"] == result.hyperparameters["algorithm"] == "item_knn"
    assert result.hyperparameters["hyperparameters"]["neighbors"] == 100
    assert set(result.hyperparameters["compared"]) == {"popular", "item_knn"}
    assert result.warnings == []
