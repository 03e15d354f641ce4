"""Every algorithm of ours passes the suite; algorithms that are wrong fail it where they are wrong."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recserver.algorithms.interactions import Interactions
from recserver.algorithms.lookup import ALGORITHM_PATHS, load_algorithm
from recserver.algorithms.protocol import Algorithm, FitContext, FittedModel
from recserver.algorithms.svd import SVD
from recserver.core.errors import TrainingFailed
from recserver.testing import AlgorithmSuite
from recserver.testing.algorithm_under_test import interactions_of

TESTS = [name for name in dir(AlgorithmSuite) if name.startswith("test_")]


QUICKER: dict[str, dict[str, Any]] = {
    "als": {"max_iter": 4},
    "auto": {"algorithms": ["nmf_fast", "item_knn", "svd"]},
}
"""Where the defaults take long."""


class Ours(AlgorithmSuite):
    """The suite over one of ours."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]
        self.personal = name != "popular"  # type: ignore[misc]
        self.hyperparameters = QUICKER.get(name, {})  # type: ignore[misc]


def called(suite: AlgorithmSuite, test: str, folder: Path) -> None:
    """Run one test, as a plain method: nothing of pytest is needed."""
    method = getattr(suite, test)
    method(*([folder] if inspect.signature(method).parameters else []))


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("name", ALGORITHM_PATHS)
def test_ours_pass(name: str, test: str, tmp_path: Path) -> None:
    called(Ours(name), test, tmp_path)


class Wrong(SVD):
    """An algorithm with a fault."""

    def __init__(self, fault: str) -> None:
        super().__init__(n_components=8)
        self.fault, self.fits = fault, 0
        if fault == "insists on a default that it refuses":
            self.default_params = {"n_components": 0}
        if fault == "has no name":
            self.model_type = ""

    def check(
        self, hyperparameters: Mapping[str, Any], *, ignore: Collection[str] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        if self.fault == "takes any hyperparameter":
            return dict(hyperparameters), []
        return super().check(hyperparameters, ignore=ignore)

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], surroundings: FitContext
    ) -> FittedModel:
        self.fits += 1
        self._stumble(interactions)
        if self.fault == "halves the ratings" and interactions.n_pairs:
            interactions.ratings[:] /= 2
        factors = super().fit(interactions, hyperparameters, surroundings)
        return self._spoilt(factors, surroundings)

    def _stumble(self, interactions: Interactions) -> None:
        users, items = len(interactions.users), len(interactions.items)
        ratings = interactions.ratings
        stumbles = {
            "fails for one row": interactions.n_pairs == 1,
            "fails for a full matrix": interactions.n_pairs == users * items and users > 8,
            "fails for dislikes": bool((ratings < 0).any() and (ratings > 0).any()),
            "fails for large ratings": bool((ratings > 1e6).any()),
            "fails for few items": (users, items) == (2000, 3),
            "fails for times": interactions.times is not None,
            "needs arrays of its own": not ratings.flags.writeable,
        }
        if stumbles.get(self.fault):
            raise ZeroDivisionError(self.fault)
        if self.fault == "fails raw" and not (ratings > 0).any():
            raise ValueError("max() of an empty sequence")

    def _spoilt(self, factors: FittedModel, surroundings: FitContext) -> FittedModel:
        users, items = factors.users, factors.items
        if self.fault == "is double" and len(items) == 25:
            users = users.astype(np.float64)
        if self.fault == "recommends by chance" and len(users) > 100:
            users = np.random.default_rng(0).random(users.shape).astype(np.float32)
        if self.fault == "changes every time":
            users = users * np.float32(self.fits)
        if self.fault == "depends on threads":
            users = users * np.float32(surroundings.threads)
        used = {**factors.hyperparameters, "rank": 8} if self.fault == "used what it refuses" else None
        metrics = dict(factors.metrics)
        if self.fault == "measures in numpy" and users.shape[0] == 30 and items.shape[0] == 20:
            metrics["loss"] = np.float32(1)
        if self.fault == "measures no number" and items.shape[0] == 25:
            metrics["loss"] = float("nan")
        return replace(factors, users=users, items=items, hyperparameters=used or factors.hyperparameters,
                       metrics=metrics)  # fmt: skip


class OfWrong(AlgorithmSuite):
    """The suite over an algorithm that nobody installed."""

    name = "wrong"

    def __init__(self, fault: str) -> None:
        self.wrong = Wrong(fault)

    def method(self) -> Algorithm:
        return self.wrong


FAULTS: dict[str, tuple[str, str]] = {
    "has no name": ("test_it_says_what_it_is", "model_type must be a name, not ''"),
    "insists on a default that it refuses": ("test_its_defaults_are_accepted", "must accept its own defaults"),
    "used what it refuses": ("test_what_a_fit_used_is_accepted", "must be accepted again"),
    "takes any hyperparameter": ("test_unknown_hyperparameters_are_refused", "must raise InvalidInput."),
    "is double": ("test_shapes_and_types", "users must be an array of float32, not float64"),
    "measures no number": ("test_shapes_and_types", "must be what JSON can hold"),
    "changes every time": ("test_equal_input_gives_equal_output", "Two fits of the same differ in users"),
    "depends on threads": ("test_threads_change_nothing", "one with 3 differ in users"),
    "halves the ratings": ("test_the_input_is_left_alone", "The fit changed ratings"),
    "needs arrays of its own": ("test_arrays_that_cannot_be_written_are_enough", "ZeroDivisionError"),
    "recommends by chance": ("test_it_beats_popularity", "must be more than 1.5 times"),
    "fails for one row": ("test_the_smallest_data", "must learn from one row, and raised ZeroDivisionError"),
    "fails for a full matrix": ("test_users_and_items_without_contrast", "learn from everybody with every item"),
    "fails raw": ("test_nothing_positive_is_a_training_failed", "must raise TrainingFailed, not ValueError"),
    "fails for dislikes": ("test_negative_ratings", "must learn from ratings from -2 to 2"),
    "fails for large ratings": ("test_ratings_of_any_size", "must learn from ratings of about 1e+09"),
    "fails for few items": ("test_many_users_or_many_items", "must learn from 2,000 users and 3 items"),
    "fails for times": ("test_times_and_weights_are_no_obstacle", "must learn from interactions with times"),
    "measures in numpy": ("test_it_packs_and_serves_the_same_scores", "must be what JSON can hold"),
}

THREADS, FROZEN = "test_threads_change_nothing", "test_arrays_that_cannot_be_written_are_enough"
ALSO: dict[str, set[str]] = {
    "insists on a default that it refuses": {
        test
        for test in TESTS
        if test not in ("test_it_says_what_it_is", "test_unknown_hyperparameters_are_refused")
    },
    "changes every time": {THREADS},
    "halves the ratings": {FROZEN},
}
"""Further tests that cannot but fail of the same fault."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_algorithm_fails_the_test_of_what_is_wrong(tmp_path: Path, fault: str) -> None:
    said = {}
    for test in TESTS:
        (own := tmp_path / test).mkdir()
        try:
            called(OfWrong(fault), test, own)
        except AssertionError as error:
            said[test] = str(error)
        except Exception as error:
            said[test] = repr(error)
    test, sentence = FAULTS[fault]
    assert sentence in said.get(test, "it passes"), said
    assert set(said) == {test} | ALSO.get(fault, set()), said


def test_a_right_algorithm_fails_nothing(tmp_path: Path) -> None:
    for test in TESTS:
        called(OfWrong("none"), test, tmp_path)


def test_every_test_of_the_suite_notices_a_fault() -> None:
    assert {test for test, _ in FAULTS.values()} == set(TESTS)


@pytest.mark.parametrize(
    ("name", "given", "rating", "sentence"),
    [
        ("ease", {"regularization": 1e-9}, 1.0, "The items are too similar to compute their weights"),
        ("svd", {"weighting": "none"}, 3e38, r"The largest rating is 3e\+38"),
        ("svd_accurate", {"weighting": "none"}, 3e38, r"The largest rating is 3e\+38"),
        (
            "svd_accurate",
            {"weighting": "none"},
            1e-38,
            "The raw ratings are too large or too small to be factorised",
        ),
    ],
)
def test_numbers_that_float32_cannot_bear_are_a_training_failed(
    name: str, given: dict[str, Any], rating: float, sentence: str
) -> None:
    full = interactions_of([(n // 20, n % 20, rating) for n in range(600)])
    with np.errstate(all="ignore"), pytest.raises(TrainingFailed, match=sentence):
        load_algorithm(name).fit(full, given, FitContext())
