"""The nmf family compared with its formulas and scikit-learn, and its warnings about changed hyperparameters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.decomposition import NMF as ScikitNMF

from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.nmf.algorithm import nmf, nmf_accurate, nmf_fast
from recserver._internal.algorithms.nmf.hals import largest_singular_value, random_start
from recserver._internal.algorithms.protocol import FitContext, FittedModel, WarmStart
from recserver._internal.core.errors import InvalidInput, TrainingFailed
from tests.helpers.planted_tastes import of, same, some, tastes

pytestmark = pytest.mark.slow

PLAIN = {"weighting": "none", "neighbors": 0, "solver": "mu"}
DEFAULT = FitContext()


def fit(
    interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext = DEFAULT
) -> FittedModel:
    return nmf.fit(interactions, hyperparameters, context)


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"n_components": 4},
        {
            "n_components": 3,
            "solver": "cd",
            "alpha": 0.1,
            "l1_ratio": 0.5,
            "random_state": 7,
            "tol": 0,
            "max_iter": 5,
        },
        {"n_components": 5, "solver": "cd", "init": "nndsvda", "max_iter": 20},
    ],
)
def test_a_fit_of_raw_ratings_equals_scikit_learn(hyperparameters: Mapping[str, Any]) -> None:
    interactions = some()
    factors = fit(interactions, {**PLAIN, **hyperparameters})
    options = {"solver": "mu", "init": "random", "random_state": 42, "max_iter": 200} | dict(hyperparameters)
    model = ScikitNMF(alpha_W=options.pop("alpha", 0.0), **options)
    parts = interactions.ratings, interactions.indices, interactions.indptr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        users = model.fit_transform(csr_array(parts, shape=(30, 20)))
    np.testing.assert_allclose(factors.users, users, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(factors.items, model.components_.T, rtol=1e-4, atol=1e-5)
    assert factors.metrics["reconstruction_error"] == pytest.approx(model.reconstruction_err_)
    assert (factors.users.dtype, factors.items.dtype) == (np.float32, np.float32)
    assert factors.neighbors is None


def test_hals_minimises_the_objective_of_scikit_learn() -> None:
    """From different initial factors both reach nearly the same objective."""
    interactions = tastes()
    common = {"weighting": "none", "neighbors": 0, "n_components": 6, "alpha": 0.001, "tol": 0, "max_iter": 300}
    errors = [
        fit(interactions, common | {"solver": solver}).metrics["reconstruction_error"] for solver in ("hals", "cd")
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.01)


def test_scores_follow_the_formula() -> None:
    """Computed with dense matrices from the fitted factors and weights."""
    interactions = tastes(users=80, items=40)
    given = {"n_components": 8, "regularization": 0.1, "blend": 0.4, "neighbors": 7}
    factors = fit(interactions, given)
    binary = csr_array((np.ones(interactions.n_pairs), interactions.indices, interactions.indptr)).toarray()
    n_users, n_items = binary.sum(axis=1), binary.sum(axis=0)
    z = binary * (n_users**-0.3)[:, None]
    assert factors.neighbors is not None and factors.item_scale is not None
    raw = factors.items / factors.item_scale[:, None]
    neighbors = csr_array(
        (factors.neighbors.weights / 0.4, factors.neighbors.indices, factors.neighbors.indptr), shape=(40, 40)
    ).toarray()
    expected = 0.6 * (factors.users @ raw.T) * n_items**0.3 + 0.4 * z @ neighbors
    np.testing.assert_allclose(factors.scores(interactions, np.arange(80)), expected, atol=1e-4)
    np.testing.assert_allclose(factors.item_scale, 0.6 * n_items**0.3, rtol=1e-5)
    matrix = csr_array(z * n_items**-0.3, dtype=np.float32)
    l2 = 0.1 * largest_singular_value(matrix)
    gradient = (factors.users @ (raw.T @ raw) - matrix @ raw) + l2 * factors.users
    assert np.abs(gradient[factors.users > 0]).max() < 0.02, "the factors do not minimise the documented objective"
    off_diagonal = neighbors[~np.eye(40, dtype=bool)]
    assert (off_diagonal >= 0).all() and not np.diag(neighbors).any()
    assert (np.count_nonzero(neighbors, axis=0) <= 7).all()


@pytest.mark.parametrize("solver", ["cd", "mu"])
def test_all_solvers_fit_the_same_weighted_matrix(solver: str) -> None:
    interactions = tastes(users=80, items=40)
    given = {"n_components": 6, "neighbors": 0, "regularization": 0.1, "max_iter": 2000, "tol": 1e-7}
    found = [fit(interactions, given | {"solver": one}) for one in ("hals", solver)]
    errors = [one.metrics["reconstruction_error"] for one in found]
    assert errors[1] * 0.9 < errors[0] < errors[1] * 1.03


@pytest.mark.parametrize("method", [nmf, nmf_fast, nmf_accurate])
def test_fits_are_reproducible_with_any_number_of_threads(method: Any) -> None:
    first = method.fit(tastes(), method.default_params, DEFAULT)
    assert same(first, method.fit(tastes(), method.default_params, FitContext(threads=3)))
    assert not same(first, method.fit(tastes(), method.default_params | {"random_state": 1}, DEFAULT))


@pytest.mark.slow
def test_neighbors_improve_the_ranking_and_both_beat_popularity() -> None:
    from recserver._internal.training.worker.evaluate import evaluate

    found = {
        name: evaluate(nmf, given, tastes(seed=3)).metrics
        for name, given in (("both", {}), ("factors", {"neighbors": 0}), ("plain", PLAIN | {"n_components": 32}))
    }
    assert found["both"]["ndcg_at_10"] > 1.5 * found["both"]["popularity_ndcg_at_10"]
    assert found["both"]["ndcg_at_10"] > found["factors"]["ndcg_at_10"] * 0.97
    assert found["both"]["ndcg_at_10"] > found["plain"]["ndcg_at_10"]


@pytest.mark.slow
def test_tuned_hyperparameters_are_used_and_not_tuned_again() -> None:
    interactions = tastes()
    tuned = nmf.tune(interactions, {}, DEFAULT)
    assert set(tuned) == {"regularization", "blend"}
    assert tuned == nmf.tune(interactions, {}, FitContext(threads=2))
    factors = fit(interactions, tuned)
    assert {name: factors.hyperparameters[name] for name in tuned} == tuned
    assert nmf.tune(interactions, tuned, DEFAULT) == {}
    assert set(nmf.tune(interactions, {"blend": 0.5}, DEFAULT)) == {"regularization", "blend"}
    assert nmf.tune(interactions, {"blend": 0.5}, DEFAULT)["blend"] == 0.5
    assert set(nmf.tune(interactions, {"neighbors": 0}, DEFAULT)) == {"regularization"}
    assert nmf.tune(interactions, PLAIN, DEFAULT) == {}
    assert nmf.tune(some(), {}, DEFAULT).keys() <= {"regularization", "blend"}
    assert nmf.tune(of([[1, 1]]), {}, DEFAULT) == {}


def test_neighbours_do_not_depend_on_the_scale_of_ratings() -> None:
    interactions, scaled = tastes(), tastes()
    scaled.ratings[:] *= 100
    given = {"weighting": "none", "blend": 1.0, "n_components": 4}
    one, other = (fit(data, given) for data in (interactions, scaled))
    assert one.neighbors is not None and other.neighbors is not None
    np.testing.assert_allclose(one.neighbors.weights, other.neighbors.weights, rtol=1e-3)
    assert nmf.tune(interactions, {"blend": 1.0}, DEFAULT) == {}


def test_untuned_fits_use_defaults() -> None:
    assert fit(some(), {}).hyperparameters["blend"] == 0.7
    assert fit(some(), {}).hyperparameters["regularization"] == 0.09
    assert fit(some(), {"neighbors": 0}).hyperparameters["blend"] == 0
    assert fit(some(), {"weighting": "none"}).hyperparameters["regularization"] == 0


@pytest.mark.parametrize("feedback", ["implicit", "weighted"])
def test_ratings_are_amounts_with_weighted_feedback_only(feedback: str) -> None:
    interactions = tastes()
    doubled = tastes()
    doubled.ratings[::2] *= 8
    equal = same(fit(interactions, {"feedback": feedback}), fit(doubled, {"feedback": feedback}))
    assert equal == (feedback == "implicit")


def test_auto_feedback_is_weighted_if_the_data_chef_weights_rows() -> None:
    from dataclasses import replace

    interactions = tastes()
    weighted = replace(interactions, weighted=True)
    assert same(fit(interactions, {}), fit(interactions, {"feedback": "implicit"}))
    assert same(fit(weighted, {}), fit(interactions, {"feedback": "weighted"}))
    assert not same(fit(weighted, {}), fit(interactions, {}))


def test_a_warm_start_near_the_optimum_needs_few_iterations() -> None:
    interactions = tastes(users=600, items=200)
    given = {"neighbors": 0, "regularization": 0.05, "n_components": 12}
    cold = fit(interactions, given)
    assert cold.item_scale is not None
    start = WarmStart(cold.users, cold.items / cold.item_scale[:, None])
    warm = fit(interactions, given, FitContext(warm_start=start))
    assert (warm.warm_started, cold.warm_started) == (True, False)
    assert warm.metrics["iterations"] <= 2 < cold.metrics["iterations"]
    assert warm.metrics["reconstruction_error"] == pytest.approx(cold.metrics["reconstruction_error"], rel=0.01)


def test_a_warm_start_of_another_rank_is_not_used() -> None:
    interactions = tastes()
    matrix = csr_array((interactions.ratings, interactions.indices, interactions.indptr))
    start = WarmStart(*random_start(matrix, 3, 9))
    given = {"neighbors": 0, "n_components": 8}
    found = fit(interactions, given, FitContext(warm_start=start))
    assert same(found, fit(interactions, given))
    assert not found.warm_started


@pytest.mark.parametrize(("users", "items", "rank"), [(3, 20, 3), (30, 2, 2), (1, 1, 1)])
def test_too_many_components_are_lowered_with_a_warning(users: int, items: int, rank: int) -> None:
    factors = fit(some(users, items), nmf.default_params)
    assert factors.users.shape == (users, rank)
    assert factors.items.shape == (items, rank)
    assert factors.metrics["n_components"] == factors.hyperparameters["n_components"] == rank
    assert factors.warnings == (
        f"n_components was lowered from 128 to {rank}, the maximum for {users} users and {items} items.",
    )


def test_the_maximum_number_of_components_causes_no_warning() -> None:
    assert fit(some(), {"n_components": 20}).warnings == ()


@pytest.mark.parametrize("rating", [0.0, -1.0])
def test_ratings_that_are_all_zero_or_negative_fail(rating: float) -> None:
    interactions = some()
    interactions.ratings[:] = rating
    with pytest.raises(
        TrainingFailed, match="Every rating is zero or negative, so there is nothing to learn from"
    ):
        fit(interactions, nmf.default_params)


@pytest.mark.parametrize("given", [PLAIN, {}])
def test_negative_ratings_count_as_zero_with_a_warning(given: Mapping[str, Any]) -> None:
    interactions, clipped = some(), some()
    interactions.ratings[:5] = -3
    clipped.ratings[:5] = 0
    factors = fit(interactions, {**given, "n_components": 4})
    assert factors.warnings == ("5 negative ratings count as 0: the algorithm does not learn from dislikes.",)
    assert same(factors, fit(clipped, {**given, "n_components": 4}))
    assert interactions.ratings[0] == -3


@pytest.mark.parametrize(
    "dense",
    [
        [[3.0]],
        [[1.0] * 30],
        [[1.0]] * 30,
        np.ones((20, 15)),
        np.vstack([np.ones(40), np.eye(40)]),
        np.hstack([np.ones((40, 1)), np.eye(40)]),
        np.eye(25),
        np.full((6, 5), 1e30),
        np.full((6, 5), 1e-30),
    ],
    ids=["one row", "one user", "one item", "all equal", "a user with all items", "an item of all users",
         "no overlap", "huge", "tiny"],
)  # fmt: skip
def test_degenerate_data_give_a_finite_model(dense: Any) -> None:
    for given in ({}, {"neighbors": 0}, {"feedback": "weighted"}, {"blend": 1.0}):
        factors = fit(of(dense), given)
        assert factors.is_finite()
        scores = factors.scores(of(dense), np.arange(len(dense)))
        assert scores.shape == np.shape(dense) and np.isfinite(scores).all()


@pytest.mark.parametrize("given", [
    {"solver": "cd", "regularization": 0, "blend": 1},
    {"solver": "mu", "weighting": "none", "n_components": 1},
    {"solver": "hals", "weighting": "none", "neighbors": 0},
])  # fmt: skip
@pytest.mark.parametrize("dense", [[[1.0] * 8], np.eye(2), np.ones((10, 6))], ids=["one user", "apart", "full"])
def test_an_exact_fit_has_a_finite_error(given: Mapping[str, Any], dense: Any) -> None:
    assert fit(of(dense), given).metrics["reconstruction_error"] >= 0


@pytest.mark.parametrize("solver", ["hals", "cd", "mu"])
@pytest.mark.parametrize("given", [{}, {"init": "nndsvda"}, {"regularization": 10}, {"neighbors": 0}])
def test_too_large_raw_ratings_fail_with_a_sentence(solver: str, given: Mapping[str, Any]) -> None:
    dense = np.where(np.eye(7, 6) + np.eye(7, 6, 1) > 0, 1e12, 0)
    assert fit(of(dense), {"weighting": "none", "solver": solver, **given}).is_finite()
    with pytest.raises(
        TrainingFailed, match=r"The largest rating is 2e\+12, and raw ratings may be at most 1e\+12"
    ):
        fit(of(2 * dense), {"weighting": "none", "solver": solver, **given})
    assert fit(of(1e26 * dense), {"solver": "hals"}).is_finite()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(20_000, 10), (10, 5_000)])
def test_very_long_and_very_wide_data_give_a_model(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    dense = random.random(shape) < 0.2
    dense[np.arange(shape[0]), np.arange(shape[0]) % shape[1]] = True
    dense[np.arange(shape[1]) % shape[0], np.arange(shape[1])] = True
    factors = fit(of(dense), {})
    assert factors.is_finite() and factors.users.shape == (shape[0], 10)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("users", "items", "n_items_each"), [(10**6, 10, 2), (10, 10**6, 10**5), (200_000, 10**6, 10)]
)
def test_a_million_users_or_items_give_a_model(users: int, items: int, n_items_each: int) -> None:
    random = np.random.default_rng(0)
    items_of_each = random.integers(0, items, (users, n_items_each))
    pairs = np.unique(np.arange(users)[:, None] * items + items_of_each)
    occurring, columns = np.unique(pairs % items, return_inverse=True)
    interactions = Interactions(
        users=[f"{user:07}" for user in range(users)],
        items=[f"{item:07}" for item in occurring.tolist()],
        indptr=np.searchsorted(pairs, np.arange(users + 1) * items),
        indices=columns.astype(np.int32),
        ratings=np.ones(len(pairs), np.float32),
        rows_used=len(pairs),
    )
    factors = nmf.fit(interactions, {"n_components": 8, "max_iter": 3}, FitContext(threads=2))
    assert factors.is_finite() and factors.items.shape[0] == len(occurring)


def test_defaults_pass_the_check() -> None:
    wanted = {nmf: (128, "hals", 200), nmf_fast: (32, "hals", 10), nmf_accurate: (256, "hals", 500)}
    for method, expected in wanted.items():
        checked, notes = method.check(method.default_params)
        assert tuple(checked[name] for name in ("n_components", "solver", "max_iter")) == expected
        assert (checked, notes) == (method.default_params, [])


def test_used_hyperparameters_pass_the_check() -> None:
    used = fit(tastes(), {}).hyperparameters
    assert nmf.check(used) == (used, [])
    assert nmf.check({"blend": None, "regularization": "auto"})[0] == {"blend": None, "regularization": None}


@pytest.mark.parametrize(
    ("name", "accepted", "rejected"),
    [
        ("n_components", [1, 1000, 10.0, "10"], [0, 1001, 1.5, True, "1e1", None, [1], float("nan")]),
        ("max_iter", [1, 10_000], [0, 10_001, "__import__('os')", -1]),
        ("random_state", [0, 4_294_967_295], [-1, 4_294_967_296, 0.5]),
        ("alpha", [0, 10, 0.5], [-0.1, 10.1, float("inf"), float("nan"), "0.5", True]),
        ("l1_ratio", [0, 1], [-0.1, 1.1]),
        ("tol", [0, 1, 1e-9], [-1, 2]),
        ("solver", ["hals", "mu", "cd"], ["MU", "", None, 1]),
        ("init", ["random", "nndsvd", "nndsvda", "nndsvdar"], ["custom"]),
        ("beta_loss", ["frobenius"], ["kullback-leibler", 2]),
        ("weighting", ["degree", "none"], ["bm25", None, 0]),
        ("feedback", ["auto", "implicit", "weighted"], ["binary", None]),
        ("regularization", [0, 0.09, 10, None, "auto"], [-0.1, 10.1, "much", True]),
        ("neighbors", [0, 100, 1000], [-1, 1001, None, 1.5]),
        ("blend", [0, 0.5, 1, None, "auto"], [-0.1, 1.1, "half", True]),
        ("warm_starts", [0, 10, 1000], [-1, 1001, None]),
        ("tpyo", [], [1]),
    ],
)
def test_hyperparameters_have_bounds(name: str, accepted: list[Any], rejected: list[Any]) -> None:
    for value in accepted:
        assert name in nmf.check({name: value})[0]
    for value in rejected:
        with pytest.raises(InvalidInput) as raised:
            nmf.check({name: value})
        assert raised.value.errors[0].loc == ("hyperparameters", name)


def test_unsupported_combinations_are_rejected() -> None:
    together = {"solver": "cd", "regularization": 0.1, "alpha": 0.1, "l1_ratio": 0.5}
    with pytest.raises(InvalidInput, match="regularization cannot be added to alpha and l1_ratio with solver cd"):
        nmf.check(together)
    assert nmf.check({**together, "solver": "hals"})[0]["alpha"] == 0.1
    assert nmf.check({**together, "regularization": None})[0]["alpha"] == 0.1


def test_unknown_names_are_rejected_or_ignored() -> None:
    with pytest.raises(InvalidInput, match=r"known are n_components, solver, max_iter"):
        nmf.check({"tpyo": 1})
    checked, notes = nmf.check({"batch_size": 7, "old": 1, "n_components": "8"}, ignore=["old"])
    assert checked == {"n_components": 8}
    assert len(notes) == 2
