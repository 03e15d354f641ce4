"""The conformance suite of algorithms: what recserver relies on, as tests that authors can inherit."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from recserver.algorithms.evaluation.metrics import ranking_metrics
from recserver.algorithms.evaluation.splitting import hold_out
from recserver.algorithms.interactions import Interactions
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.errors import InvalidInput
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.pipeline import recommend
from recserver.recommend.query import Query
from recserver.storage.model_file import load
from recserver.testing.algorithm_under_test import (
    AlgorithmUnderTest,
    check_sound,
    clustered_rows,
    first_difference,
    interactions_of,
    random_rows,
)
from recserver.testing.observed_chef import check, is_sentence
from recserver.training.jobs import TrainingJob
from recserver.training.worker.train import finish_training, training_digest

N_THREADS = 3
MIN_IMPROVEMENT = 1.5
"""By how much an algorithm has to beat popularity where people's tastes are as plain as can be."""


class AlgorithmSuite(AlgorithmUnderTest):
    """Tests of an algorithm. Inherit from it in a class that pytest collects, and fill in ``name``.

    The algorithm is found by its name, as a server finds it: its package must be installed, with its entry point.
    The tests are plain methods; one of them takes an empty folder.
    """

    # What it says of itself, and which hyperparameters it takes

    def test_it_declares_its_type(self) -> None:
        method = self.algorithm()
        for name in ("model_type", "model_class"):
            text = getattr(method, name, None)
            check(isinstance(text, str) and text, f"{name} must be a name, not {text!r}.")
        try:
            again = json.loads(json.dumps(method.default_params))
        except (TypeError, ValueError) as error:
            raise AssertionError(f"default_params must be what JSON can hold: {error}.") from error
        check(again == method.default_params, f"default_params must be the same after JSON, not {again}.")

    def test_defaults_are_accepted(self) -> None:
        method = self.algorithm()
        for given in ({}, dict(method.default_params)):
            try:
                checked, warnings = method.check(given)
            except Exception as error:
                raise AssertionError(f"check({given}) must accept its own defaults: {error!r}.") from error
            check(checked == given, f"check({given}) must give the same back, not {checked}.")
            check(list(warnings) == [], f"check({given}) must not warn of its own defaults: {warnings}.")

    def test_used_hyperparameters_are_accepted(self) -> None:
        used = self.fitted(interactions_of(clustered_rows())).hyperparameters
        try:
            json.dumps(used)
            self.algorithm().check(used)
        except Exception as error:
            raise AssertionError(
                f"The hyperparameters of a fit must be accepted again: {used}: {error!r}."
            ) from error

    def test_unknown_hyperparameters_are_refused(self) -> None:
        method, strange = self.algorithm(), {"no such hyperparameter": 1}
        try:
            method.check(strange)
        except InvalidInput as error:
            check(is_sentence(str(error)), f"InvalidInput must be a sentence, not {str(error)!r}.")
        except Exception as error:
            raise AssertionError(f"check({strange}) must raise InvalidInput, not {error!r}.") from error
        else:
            raise AssertionError(f"check({strange}) must raise InvalidInput.")
        checked, warnings = method.check(strange, ignore=strange)
        check(not checked, f"A name that is to be ignored must be left out, not {checked}.")
        check(len(list(warnings)) == 1, f"A name that is ignored must be warned of, not {warnings}.")

    # What a fit gives

    def test_shapes_and_types(self) -> None:
        interactions = interactions_of(random_rows(40, 25))
        check_sound(self.fitted(interactions), "40 users and 25 items", interactions)

    def test_equal_input_gives_equal_output(self) -> None:
        interactions = interactions_of(clustered_rows())
        first, again = self.fitted(interactions), self.fitted(interactions)
        where = first_difference(first, again)
        check(where is None, f"Two fits of the same differ in {where}.")

    def test_threads_change_nothing(self) -> None:
        wide = random_rows(60, 6000, 0.01)  # libraries share out work only if there is enough
        for rows in (clustered_rows(), wide):
            interactions = interactions_of(rows)
            where = first_difference(self.fitted(interactions), self.fitted(interactions, N_THREADS))
            check(where is None, f"A fit with one thread and one with {N_THREADS} differ in {where}.")

    def test_the_input_is_not_modified(self) -> None:
        interactions = interactions_of(clustered_rows())
        before = _copy_arrays(interactions)
        self.fitted(interactions)
        for name, was in before.items():
            check(
                np.array_equal(getattr(interactions, name), was), f"The fit changed {name} of what it was given."
            )

    def test_read_only_arrays_are_accepted(self) -> None:
        interactions = interactions_of(clustered_rows())
        for name in ("indptr", "indices", "ratings"):
            getattr(interactions, name).flags.writeable = False
        self.check_fits("arrays that cannot be written", interactions)

    def test_it_beats_popularity(self) -> None:
        if not self.personal:
            return
        holdout = hold_out(interactions_of(clustered_rows()))
        if holdout is None:
            raise AssertionError("There must be something to foretell: this is a fault in recserver.")
        training = holdout.training
        factors, counts = self.fitted(training), training.item_counts().astype(np.float32)
        own = ranking_metrics(holdout, lambda users: factors.scores(training, users))["ndcg_at_10"]
        popular = ranking_metrics(holdout, lambda users: np.tile(counts, (len(users), 1)))["ndcg_at_10"]
        check(
            own > MIN_IMPROVEMENT * popular,
            f"Of people with plain tastes ndcg_at_10 must be more than {MIN_IMPROVEMENT} times that of "
            f"popular items ({popular:.3f}), and is {own:.3f}.",
        )

    # Data at the edge

    def test_the_smallest_data(self) -> None:
        self.check_fits("one row", interactions_of([(0, 0, 1.0)]))
        self.check_fits("one user", interactions_of([(0, item, 1.0 + item % 5) for item in range(8)]))
        self.check_fits("one item", interactions_of([(user, 0, 1.0 + user % 5) for user in range(8)]))
        self.check_fits("two users with nothing in common", interactions_of([(0, 0, 1.0), (1, 1, 5.0)]))

    def test_constant_ratings_and_full_rows(self) -> None:
        rows = random_rows(30, 12)
        self.check_fits("ratings that are all the same", interactions_of([(*row[:2], 3.0) for row in rows]))
        everything = [(99, item, 2.0) for item in range(12)]
        self.check_fits("a user with every item", interactions_of(rows + everything))
        self.check_fits("everybody with every item", interactions_of([(n // 6, n % 6, 1.0) for n in range(60)]))

    def test_nothing_positive_is_a_training_failed(self) -> None:
        rows = random_rows(20, 10)
        for what, rating in (("ratings that are all zero", 0.0), ("ratings that are all negative", -2.0)):
            if self.personal:
                self.check_refuses(what, interactions_of([(*row[:2], rating) for row in rows]))

    def test_negative_ratings(self) -> None:
        rows = [(user, item, rating - 3) for user, item, rating in random_rows(40, 20)]
        self.check_fits("ratings from -2 to 2", interactions_of(rows))
        dislikes = [row for row in rows if row[0]] + [(0, item, -1.0) for item in range(5)]
        self.check_fits("a user with dislikes only", interactions_of(dislikes))

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

    # What recserver makes of it

    def test_it_packs_and_serves_the_same_scores(self, tmp_path: Path) -> None:
        interactions = interactions_of(random_rows(30, 20))
        factors, job = self.fitted(interactions), self._job(tmp_path)
        result = finish_training(job, self.algorithm(), interactions, factors, training_digest(job, interactions))
        try:
            json.dumps(result.model_dump())
        except (TypeError, ValueError) as error:
            raise AssertionError(f"Metrics and hyperparameters must be what JSON can hold: {error}.") from error
        recommender = Recommender.from_artifact(load(job.out))
        everything = Query(n=len(interactions.items), exclude_seen=False, fallback=None)
        expected = factors.scores(interactions, np.arange(len(interactions.users)))
        for place, user in enumerate(interactions.users):
            answer = recommend(recommender, user, everything)
            served = dict(answer.items)
            own = [served.get(item, np.nan) for item in interactions.items]
            check(
                np.allclose(own, expected[place], rtol=1e-4, atol=1e-6),
                f"The scores that are served to {user} are not those of the fit: {own} and {expected[place]}.",
            )

    def _job(self, folder: Path) -> TrainingJob:
        return TrainingJob(
            model_id="conformance", model_version=1, algorithm=self.name, hyperparameters={},
            data_chef_id="conformance", data_chef={}, policy=SourcePolicy(data_dir=folder), out=folder / "packed",
        )  # fmt: skip


def _copy_arrays(interactions: Interactions) -> dict[str, Any]:
    found = {one.name: getattr(interactions, one.name) for one in fields(interactions)}
    kinds = (np.ndarray, list, dict)
    return {name: value.copy() if isinstance(value, kinds) else value for name, value in found.items()}
