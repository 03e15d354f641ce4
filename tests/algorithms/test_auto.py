"""auto: which algorithm it takes, what it leaves out for want of time, and that it fits exactly that one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recserver.algorithms.auto import search as auto_choice
from recserver.algorithms.auto.algorithm import auto
from recserver.algorithms.auto.params import AutoParams
from recserver.algorithms.auto.search import select_algorithm, typical_seconds
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.lookup import ALGORITHM_PATHS, load_algorithm
from recserver.algorithms.protocol import FitContext
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.clock import SystemClock
from recserver.core.errors import InvalidInput, TrainingFailed
from recserver.testing.algorithm_under_test import clustered_rows, first_difference, interactions_of, random_rows
from recserver.training.jobs import TrainingJob
from recserver.training.worker.evaluate import evaluate
from recserver.training.worker.train import train

PLAIN = interactions_of(clustered_rows())


class Clockwork(SystemClock):
    """A clock on which every fit takes what is said, whatever it takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> None:
        self.now_at, self.compared = 0.0, list[str]()
        compare = auto_choice._compare

        def timed(name: str, *arguments: Any) -> None:
            compare(name, *arguments)
            self.compared.append(name)
            self.now_at += seconds.get(name, 1.0)

        monkeypatch.setattr(auto_choice, "_compare", timed)
        monkeypatch.setattr(auto_choice, "typical_seconds", lambda name, _: USUAL[name])

    def monotonic(self) -> float:
        return self.now_at


USUAL = {"popular": 1.0, "item_knn": 2.0, "svd": 3.0, "ease": 40.0, "nmf": 50.0}


def chosen(clock: Clockwork, budget: float, interactions: Interactions = PLAIN) -> dict[str, Any]:
    return select_algorithm(
        interactions, AutoParams(algorithms=list(USUAL), time_budget=budget), FitContext(), clock
    )


def test_the_one_that_ranks_best_is_taken_and_fitted_as_itself() -> None:
    found = auto.tune(PLAIN, {"algorithms": ["popular", "item_knn", "svd"]}, FitContext())
    assert set(found["compared"]) == {"popular", "item_knn", "svd"}
    best = max(found["compared"], key=found["compared"].__getitem__)
    assert found["algorithm"] == best != "popular"
    factors = auto.fit(PLAIN, found, FitContext())
    method = load_algorithm(best)
    itself = method.fit(PLAIN, {**method.default_params, **found["hyperparameters"]}, FitContext())
    assert first_difference(factors, itself) == "hyperparameters"  # and in nothing before these
    assert factors.hyperparameters["hyperparameters"] == itself.hyperparameters
    assert factors.hyperparameters["algorithm"] == factors.metrics["chosen_algorithm"] == best
    assert factors.warnings == itself.warnings


def test_what_an_algorithm_leaves_to_the_data_is_chosen_with_it() -> None:
    found = auto.tune(PLAIN, {"algorithms": ["nmf"]}, FitContext())
    assert set(found["hyperparameters"]) == {"regularization", "blend"}
    used = auto.fit(PLAIN, found, FitContext()).hyperparameters["hyperparameters"]
    assert {name: used[name] for name in ("regularization", "blend")} == found["hyperparameters"]


def test_a_choice_is_fitted_the_same_again() -> None:
    given = {"algorithm": "svd", "hyperparameters": {"n_components": 5}, "random_state": 7}
    assert auto.tune(PLAIN, given, FitContext()) == {}
    one, again = (auto.fit(PLAIN, given, FitContext()) for _ in range(2))
    assert first_difference(one, again) is None
    assert one.hyperparameters["hyperparameters"]["random_state"] == 7
    assert one.users.shape[1] == 5


def test_the_cheapest_come_first_and_none_that_does_not_fit_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clockwork(monkeypatch, {"popular": 2.0, "item_knn": 4.0, "svd": 6.0})  # half as quick as usual
    found = chosen(clock, 80.0)
    assert clock.compared == ["popular", "item_knn", "svd"]
    assert found["notes"] == [
        "ease was not compared: it would take about 74.3 seconds, and only 68 of the time_budget of 80 were left.",
        "nmf was not compared: it would take about 92.9 seconds, and only 68 of the time_budget of 80 were left.",
    ]
    assert auto.fit(PLAIN, found, FitContext()).warnings[:2] == tuple(found["notes"])


def test_a_quick_machine_compares_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clockwork(monkeypatch, {name: usual / 4 for name, usual in USUAL.items()})
    assert chosen(clock, 30.0)["notes"] == []
    assert clock.compared == list(USUAL)


def test_without_time_for_any_the_cheapest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clockwork(monkeypatch, {})
    found = chosen(clock, 0.5)
    assert (clock.compared, found["algorithm"], found["compared"]) == ([], "popular", {})
    assert found["notes"][-1] == "popular was selected as the cheapest: raise time_budget to compare algorithms."


def test_one_that_does_not_end_in_time_is_ended() -> None:
    class Hurrying(SystemClock):
        asked = 0.0

        def monotonic(self) -> float:
            self.asked += 1
            return self.asked

    params = AutoParams(algorithms=["popular", "als"], time_budget=8)
    found = select_algorithm(PLAIN, params, FitContext(), Hurrying())
    assert found["algorithm"] == "popular"
    assert found["notes"] == ["als was not compared: it did not end within the time_budget."]


def test_one_that_cannot_learn_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recserver.algorithms.ease.MAX_ITEMS", 10)
    found = auto.tune(PLAIN, {"algorithms": ["ease", "item_knn"]}, FitContext())
    assert found["algorithm"] == "item_knn"
    (note,) = found["notes"]
    assert note.startswith("ease was not compared: ease needs memory for the square of the catalogue")


def test_few_data_are_not_compared_on() -> None:
    few = interactions_of(random_rows(8, 6))
    assert auto.tune(few, {"algorithms": ["svd", "als"]}, FitContext()) == {}
    factors = auto.fit(few, {"algorithms": ["svd", "als"]}, FitContext())
    assert factors.metrics["chosen_algorithm"] == "svd"
    assert (
        factors.warnings[0] == "svd was fitted, the first of algorithms: there are too few data to compare them."
    )


def test_an_evaluation_hands_the_choice_on() -> None:
    found = evaluate(auto, {"algorithms": ["popular", "item_knn"]}, PLAIN)
    assert found.tuned["algorithm"] == "item_knn"
    assert found.metrics["ndcg_at_10"] > found.metrics["popularity_ndcg_at_10"]


def test_nothing_to_learn_is_a_training_failed() -> None:
    with pytest.raises(TrainingFailed, match="zero or negative"):
        auto.fit(interactions_of([(0, 0, 0.0), (1, 1, 0.0)]), {}, FitContext())


@pytest.mark.parametrize(
    ("given", "sentence"),
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
def test_what_it_cannot_do_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        auto.check(given)
    assert sentence in str(refusal.value)


def test_every_algorithm_has_a_usual_time() -> None:
    assert all(typical_seconds(name, PLAIN) > 0 for name in ALGORITHM_PATHS if name != "auto")


def test_a_training_shows_what_it_chose(tmp_path: Path) -> None:
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
