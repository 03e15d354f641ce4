"""Built-in algorithms pass the conformance suite; each faulty algorithm fails the test of its fault."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.lookup import ALGORITHM_PATHS, load_algorithm
from recserver._internal.algorithms.protocol import Algorithm, FitContext, FittedModel
from recserver._internal.algorithms.svd import SVD
from recserver._internal.core.errors import TrainingFailed
from recserver.testing import AlgorithmSuite
from recserver.testing._algorithm_under_test import interactions_of

TESTS = [name for name in dir(AlgorithmSuite) if name.startswith("test_")]


SMALL = {"n_components": 8, "max_iter": 20, "neighbors": 10, "regularization": 0.09, "blend": 0.7}
QUICKER: dict[str, dict[str, Any]] = {
    "nmf": SMALL,
    "nmf_fast": SMALL,
    "nmf_accurate": SMALL,
    "als": {"n_components": 8, "max_iter": 4},
    "auto": {"algorithms": ["nmf_fast", "item_knn", "svd"]},
}
"""Hyperparameters for algorithms whose defaults take long."""


class BuiltinSuite(AlgorithmSuite):
    """The suite for a built-in algorithm."""

    def __init__(self, name: str, hyperparameters: dict[str, Any]) -> None:
        self.name = name  # type: ignore[misc]
        self.personal = name != "popular"  # type: ignore[misc]
        self.hyperparameters = hyperparameters  # type: ignore[misc]


def run_test(suite: AlgorithmSuite, test: str, folder: Path) -> None:
    """Run one test as a plain method, without pytest."""
    method = getattr(suite, test)
    method(*([folder] if inspect.signature(method).parameters else []))


@pytest.mark.slow
@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("name", ALGORITHM_PATHS)
def test_builtin_algorithms_pass(name: str, test: str, tmp_path: Path) -> None:
    run_test(BuiltinSuite(name, QUICKER.get(name, {})), test, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("name", QUICKER)
def test_builtin_algorithms_pass_with_defaults(name: str, test: str, tmp_path: Path) -> None:
    run_test(BuiltinSuite(name, {}), test, tmp_path)


class Wrong(SVD):
    """An algorithm with one fault."""

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
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        self.fits += 1
        self._fail(interactions)
        if self.fault == "halves the ratings" and interactions.n_pairs:
            interactions.ratings[:] /= 2
        factors = super().fit(interactions, hyperparameters, context)
        return self._corrupted(factors, context)

    def _fail(self, interactions: Interactions) -> None:
        users, items = len(interactions.users), len(interactions.items)
        ratings = interactions.ratings
        failures = {
            "fails for one row": interactions.n_pairs == 1,
            "fails for a full matrix": interactions.n_pairs == users * items and users > 8,
            "fails for dislikes": bool((ratings < 0).any() and (ratings > 0).any()),
            "fails for large ratings": bool((ratings > 1e6).any()),
            "fails for few items": (users, items) == (2000, 3),
            "fails for times": interactions.times is not None,
            "needs arrays of its own": not ratings.flags.writeable,
        }
        if failures.get(self.fault):
            raise ZeroDivisionError(self.fault)
        if self.fault == "fails raw" and not (ratings > 0).any():
            raise ValueError("max() of an empty sequence")

    def _corrupted(self, factors: FittedModel, context: FitContext) -> FittedModel:
        users, items = factors.users, factors.items
        if self.fault == "is double" and len(items) == 25:
            users = users.astype(np.float64)
        if self.fault == "recommends by chance" and len(users) > 100:
            users = np.random.default_rng(0).random(users.shape).astype(np.float32)
        if self.fault == "changes every time":
            users = users * np.float32(self.fits)
        if self.fault == "depends on threads":
            users = users * np.float32(context.threads)
        used = {**factors.hyperparameters, "rank": 8} if self.fault == "used what it refuses" else None
        metrics = dict(factors.metrics)
        if self.fault == "measures in numpy" and users.shape[0] == 30 and items.shape[0] == 20:
            metrics["loss"] = np.float32(1)
        if self.fault == "measures no number" and items.shape[0] == 25:
            metrics["loss"] = float("nan")
        return replace(factors, users=users, items=items, hyperparameters=used or factors.hyperparameters,
                       metrics=metrics)  # fmt: skip


class WrongSuite(AlgorithmSuite):
    """The suite for an algorithm that is not installed."""

    name = "wrong"

    def __init__(self, fault: str) -> None:
        self.wrong = Wrong(fault)

    def algorithm(self) -> Algorithm:
        return self.wrong


FAULTS: dict[str, tuple[str, str]] = {
    "has no name": ("test_it_declares_its_type", "model_type must be a name, not ''"),
    "insists on a default that it refuses": ("test_defaults_are_accepted", "must accept its own defaults"),
    "used what it refuses": ("test_used_hyperparameters_are_accepted", "must be accepted again"),
    "takes any hyperparameter": (
        "test_unknown_hyperparameters_are_refused",
        "must raise InvalidInput, and raised nothing.",
    ),
    "is double": ("test_shapes_and_types", "users must be an array of float32, not float64"),
    "measures no number": ("test_shapes_and_types", "must be valid as JSON"),
    "changes every time": ("test_equal_input_gives_equal_output", "Two fits to the same data differ in users"),
    "depends on threads": ("test_threads_change_nothing", "one with 3 differ in users"),
    "halves the ratings": ("test_the_input_is_not_modified", "The fit modified interactions.ratings"),
    "needs arrays of its own": ("test_read_only_arrays_are_accepted", "ZeroDivisionError"),
    "recommends by chance": ("test_it_beats_popularity", "must be more than 1.5 times"),
    "fails for one row": ("test_the_smallest_data", "must learn from one row, and raised ZeroDivisionError"),
    "fails for a full matrix": ("test_constant_ratings_and_full_rows", "learn from a full matrix"),
    "fails raw": ("test_data_without_positive_ratings_is_refused", "must raise TrainingFailed, not ValueError"),
    "fails for dislikes": ("test_negative_ratings", "must learn from ratings from -2 to 2"),
    "fails for large ratings": ("test_ratings_of_any_size", "must learn from ratings of about 1e+09"),
    "fails for few items": ("test_many_users_or_many_items", "must learn from 2,000 users and 3 items"),
    "fails for times": ("test_times_and_weights_are_accepted", "must learn from interactions with times"),
    "measures in numpy": ("test_it_packs_and_serves_the_same_scores", "must be valid as JSON"),
}

THREADS, FROZEN = "test_threads_change_nothing", "test_read_only_arrays_are_accepted"
ALSO: dict[str, set[str]] = {
    "insists on a default that it refuses": {
        test
        for test in TESTS
        if test not in ("test_it_declares_its_type", "test_unknown_hyperparameters_are_refused")
    },
    "changes every time": {THREADS},
    "halves the ratings": {FROZEN},
}
"""Further tests that fail because of the same fault."""


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_algorithm_fails_the_test_of_its_fault(tmp_path: Path, fault: str) -> None:
    failures = {}
    for test in TESTS:
        (own := tmp_path / test).mkdir()
        try:
            run_test(WrongSuite(fault), test, own)
        except AssertionError as error:
            failures[test] = str(error)
        except Exception as error:
            failures[test] = repr(error)
    test, sentence = FAULTS[fault]
    assert sentence in failures.get(test, "it passes"), failures
    assert set(failures) == {test} | ALSO.get(fault, set()), failures


def test_a_correct_algorithm_passes(tmp_path: Path) -> None:
    for test in TESTS:
        run_test(WrongSuite("none"), test, tmp_path)


def test_every_test_of_the_suite_detects_a_fault() -> None:
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
def test_float32_overflow_is_refused(name: str, given: dict[str, Any], rating: float, sentence: str) -> None:
    full = interactions_of([(n // 20, n % 20, rating) for n in range(600)])
    with np.errstate(all="ignore"), pytest.raises(TrainingFailed, match=sentence):
        load_algorithm(name).fit(full, given, FitContext())
