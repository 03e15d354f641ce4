"""The conformance suite of algorithms: what recserver relies on, as tests that authors inherit."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from recserver._internal.algorithms.evaluation.ranking_metrics import ranking_metrics
from recserver._internal.algorithms.evaluation.splitting import hold_out
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import InvalidInput
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import recommend
from recserver._internal.recommend.query import Query
from recserver._internal.storage.model_file import load
from recserver._internal.training.jobs import TrainingJob
from recserver._internal.training.worker.evaluate import popularity_metrics
from recserver._internal.training.worker.train import finish_training, training_digest
from recserver.testing._algorithm_under_test import (
    AlgorithmUnderTest,
    check_valid,
    clustered_rows,
    first_difference,
    interactions_of,
    random_rows,
)
from recserver.testing._checks import check, must_raise, must_work, through_json

N_THREADS = 3
MIN_IMPROVEMENT = 1.5
"""Minimum ratio of the algorithm's NDCG to that of popular items on data with clear clusters."""


class AlgorithmSuite(AlgorithmUnderTest):
    """Tests of an algorithm. Inherit from it in a class that pytest collects, and fill in ``name``.

    The algorithm is found by its name, as a server finds it: its package must be installed, with its entry point.
    The tests are plain methods; one of them takes an empty folder.
    """

    # Attributes and hyperparameters

    def test_it_declares_its_type(self) -> None:
        algorithm = self.algorithm()
        for name in ("model_type", "model_class"):
            text = getattr(algorithm, name, None)
            check(isinstance(text, str) and text, f"{name} must be a name, not {text!r}.")
        again = through_json(algorithm.default_params, "default_params")
        check(again == algorithm.default_params, f"default_params must be the same after JSON, not {again}.")

    def test_defaults_are_accepted(self) -> None:
        algorithm = self.algorithm()
        for hyperparameters in ({}, dict(algorithm.default_params)):
            with must_work(f"check({hyperparameters}) must accept its own defaults"):
                checked, warnings = algorithm.check(hyperparameters)
            check(checked == hyperparameters, f"check({hyperparameters}) must return the same, not {checked}.")
            check(
                list(warnings) == [], f"check({hyperparameters}) must not warn about its own defaults: {warnings}."
            )

    def test_used_hyperparameters_are_accepted(self) -> None:
        used = self.fitted(interactions_of(clustered_rows())).hyperparameters
        through_json(used, "The hyperparameters of a fitted model")
        with must_work(f"The hyperparameters of a fitted model must be accepted again: {used}"):
            self.algorithm().check(used)

    def test_unknown_hyperparameters_are_refused(self) -> None:
        algorithm, unknown = self.algorithm(), {"no such hyperparameter": 1}
        with must_raise(InvalidInput, f"check({unknown}) must raise InvalidInput"):
            algorithm.check(unknown)
        checked, warnings = algorithm.check(unknown, ignore=unknown)
        check(not checked, f"check() must leave out a name in ignore, and returned {checked}.")
        check(len(list(warnings)) == 1, f"check() must warn once about a name in ignore, not {warnings}.")

    # The fitted model

    def test_shapes_and_types(self) -> None:
        interactions = interactions_of(random_rows(40, 25))
        check_valid(self.fitted(interactions), "40 users and 25 items", interactions)

    def test_equal_input_gives_equal_output(self) -> None:
        interactions = interactions_of(clustered_rows())
        first, second = self.fitted(interactions), self.fitted(interactions)
        name = first_difference(first, second)
        check(name is None, f"Two fits to the same data differ in {name}.")

    def test_threads_change_nothing(self) -> None:
        wide = random_rows(60, 6000, 0.01)  # libraries use several threads for large data only
        for rows in (clustered_rows(), wide):
            interactions = interactions_of(rows)
            name = first_difference(self.fitted(interactions), self.fitted(interactions, N_THREADS))
            check(name is None, f"A fit with one thread and one with {N_THREADS} differ in {name}.")

    def test_the_input_is_not_modified(self) -> None:
        interactions = interactions_of(clustered_rows())
        before = deepcopy(interactions)
        self.fitted(interactions)
        for name in (field.name for field in fields(interactions)):
            is_unchanged = np.array_equal(getattr(interactions, name), getattr(before, name))
            check(is_unchanged, f"The fit modified interactions.{name}.")

    def test_read_only_arrays_are_accepted(self) -> None:
        interactions = interactions_of(clustered_rows())
        for name in ("indptr", "indices", "ratings"):
            getattr(interactions, name).flags.writeable = False
        self.check_fits("read-only arrays", interactions)

    def test_it_beats_popularity(self) -> None:
        if not self.personal:
            return
        holdout = hold_out(interactions_of(clustered_rows()))
        if holdout is None:
            raise AssertionError("No held-out interactions: this is an internal error of recserver.")
        training = holdout.training
        model = self.fitted(training)
        ndcg = ranking_metrics(holdout, lambda users: model.scores(training, users))["ndcg_at_10"]
        popular = popularity_metrics(holdout)["ndcg_at_10"]
        check(
            ndcg > MIN_IMPROVEMENT * popular,
            f"On data with clear clusters ndcg_at_10 must be more than {MIN_IMPROVEMENT} times that of popular "
            f"items ({popular:.3f}), and is {ndcg:.3f}.",
        )

    # Edge cases of the data

    def test_the_smallest_data(self) -> None:
        self.check_fits("one row", interactions_of([(0, 0, 1.0)]))
        self.check_fits("one user", interactions_of([(0, item, 1.0 + item % 5) for item in range(8)]))
        self.check_fits("one item", interactions_of([(user, 0, 1.0 + user % 5) for user in range(8)]))
        self.check_fits("two users without a common item", interactions_of([(0, 0, 1.0), (1, 1, 5.0)]))

    def test_constant_ratings_and_full_rows(self) -> None:
        rows = random_rows(30, 12)
        self.check_fits("constant ratings", interactions_of([(*row[:2], 3.0) for row in rows]))
        full_row = [(99, item, 2.0) for item in range(12)]
        self.check_fits("a user with every item", interactions_of(rows + full_row))
        self.check_fits("a full matrix", interactions_of([(n // 6, n % 6, 1.0) for n in range(60)]))

    def test_data_without_positive_ratings_is_refused(self) -> None:
        rows = random_rows(20, 10)
        for description, rating in (("ratings that are all zero", 0.0), ("ratings that are all negative", -2.0)):
            if self.personal:
                self.check_refuses(description, interactions_of([(*row[:2], rating) for row in rows]))

    def test_negative_ratings(self) -> None:
        rows = [(user, item, rating - 3) for user, item, rating in random_rows(40, 20)]
        self.check_fits("ratings from -2 to 2", interactions_of(rows))
        negative = [row for row in rows if row[0]] + [(0, item, -1.0) for item in range(5)]
        self.check_fits("a user with negative ratings only", interactions_of(negative))

    def test_ratings_of_any_size(self) -> None:
        for size in (1e-30, 1e-6, 1e9, 1e30):
            rows = [(user, item, rating * size) for user, item, rating in random_rows(30, 15)]
            self.check_fits(f"ratings of about {size:g}", interactions_of(rows))

    def test_many_users_or_many_items(self) -> None:
        self.check_fits("2,000 users and 3 items", interactions_of(random_rows(2000, 3, 0.4)))
        self.check_fits("3 users and 2,000 items", interactions_of(random_rows(3, 2000, 0.4)))

    def test_times_and_weights_are_accepted(self) -> None:
        interactions = interactions_of(clustered_rows())
        times = np.random.default_rng(2).permutation(interactions.n_pairs).astype(np.float64)
        self.check_fits("interactions with times and weights", replace(interactions, times=times, weighted=True))

    # The algorithm in recserver

    def test_it_packs_and_serves_the_same_scores(self, tmp_path: Path) -> None:
        interactions = interactions_of(random_rows(30, 20))
        job = TrainingJob(
            model_id="conformance", model_version=1, algorithm=self.name, hyperparameters={},
            data_chef_id="conformance", data_chef={}, policy=SourcePolicy(data_dir=tmp_path),
            out=tmp_path / "packed",
        )  # fmt: skip
        model = self.fitted(interactions)
        result = finish_training(job, self.algorithm(), interactions, model, training_digest(job, interactions))
        through_json(result.model_dump(), "The metrics and hyperparameters of a training")
        recommender = Recommender.from_artifact(load(job.out))
        all_items = Query(n=len(interactions.items), exclude_seen=False, fallback=None)
        expected = model.scores(interactions, np.arange(len(interactions.users)))
        for index, user in enumerate(interactions.users):
            served = dict(recommend(recommender, user, all_items).items)
            scores = [served.get(item, np.nan) for item in interactions.items]
            check(
                np.allclose(scores, expected[index], rtol=1e-4, atol=1e-6),
                f"The served scores of {user} differ from the fitted ones: {scores} and {expected[index]}.",
            )
