"""The nmf family: scikit-learn's own factorisation, bounded, repeatable, and honest about what it changed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.decomposition import NMF as ScikitNMF

from recserver.algorithms import Factors
from recserver.algorithms.nmf import nmf, nmf_accurate, nmf_fast
from recserver.errors import InvalidInput, TrainingFailed
from recserver.interactions import Interactions


def some(users: int = 30, items: int = 20, seed: int = 0) -> Interactions:
    """Random ratings from 1 to 5 for about a third of all pairs; every user and item occurs."""
    random = np.random.default_rng(seed)
    dense = random.integers(1, 6, (users, items)) * (random.random((users, items)) < 0.3)
    dense[np.arange(users), np.arange(users) % items] = 3
    dense[np.arange(items) % users, np.arange(items)] = 4
    return of(dense)


def of(dense: Any) -> Interactions:
    """The interactions of a matrix of ratings in which 0 means none."""
    matrix = csr_array(np.asarray(dense, np.float32))
    return Interactions(
        users=[f"u{number:03}" for number in range(matrix.shape[0])],
        items=[f"i{number:03}" for number in range(matrix.shape[1])],
        indptr=matrix.indptr.astype(np.int64),
        indices=matrix.indices.astype(np.int32),
        ratings=matrix.data,
        rows_used=matrix.nnz,
    )


def same(one: Factors, other: Factors) -> bool:
    return np.array_equal(one.users, other.users) and np.array_equal(one.items, other.items)


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
def test_a_plain_fit_is_scikit_learns_own(hyperparameters: Mapping[str, Any]) -> None:
    interactions = some()
    factors = nmf.fit(interactions, hyperparameters)
    options = {"solver": "mu", "init": "random", "random_state": 42, "max_iter": 200} | dict(hyperparameters)
    model = ScikitNMF(alpha_W=options.pop("alpha", 0.0), **options)
    parts = interactions.ratings, interactions.indices, interactions.indptr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        users = model.fit_transform(csr_array(parts, shape=(30, 20)))
    np.testing.assert_allclose(factors.users, users, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(factors.items, model.components_.T, rtol=1e-5, atol=1e-6)
    assert factors.metrics["reconstruction_error"] == pytest.approx(model.reconstruction_err_)
    assert (factors.users.dtype, factors.items.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("method", [nmf, nmf_fast])
def test_the_same_again_gives_the_same(method: Any) -> None:
    assert same(method.fit(some(), method.default_params), method.fit(some(), method.default_params))
    other_start = method.fit(some(), method.default_params | {"random_state": 1})
    assert not same(method.fit(some(), method.default_params), other_start)


@pytest.mark.parametrize(("users", "items", "rank"), [(3, 20, 3), (30, 2, 2), (1, 1, 1)])
def test_more_components_than_the_data_allow_are_lowered_with_a_warning(users: int, items: int, rank: int) -> None:
    factors = nmf.fit(some(users, items), nmf.default_params)
    assert factors.users.shape == (users, rank)
    assert factors.items.shape == (items, rank)
    assert factors.metrics["n_components"] == factors.hyperparameters["n_components"] == rank
    assert factors.warnings == (
        f"n_components was lowered from 32 to {rank}: {users} users and {items} items allow no more.",
    )


def test_the_data_that_allow_everything_get_no_warning() -> None:
    assert nmf.fit(some(), {"n_components": 20}).warnings == ()


@pytest.mark.parametrize("rating", [0.0, -1.0])
def test_ratings_that_are_all_zero_or_negative_teach_nothing(rating: float) -> None:
    interactions = some()
    interactions.ratings[:] = rating
    with pytest.raises(
        TrainingFailed, match="Every rating is zero or negative, so there is nothing to learn from"
    ):
        nmf.fit(interactions, nmf.default_params)


def test_negative_ratings_count_as_zero_with_a_warning() -> None:
    interactions, clipped = some(), some()
    interactions.ratings[:5] = -3
    clipped.ratings[:5] = 0
    factors = nmf.fit(interactions, {"n_components": 4})
    assert factors.warnings == ("5 negative ratings count as 0: nmf knows no dislike.",)
    assert same(factors, nmf.fit(clipped, {"n_components": 4}))
    assert interactions.ratings[0] == -3


def test_every_default_is_accepted_back_and_used() -> None:
    for method, expected in ((nmf, (32, "mu", 200)), (nmf_fast, (16, "cd", 100)), (nmf_accurate, (64, "mu", 500))):
        checked, notes = method.check(method.default_params)
        assert tuple(checked[name] for name in ("n_components", "solver", "max_iter")) == expected
        assert (checked, notes) == (method.default_params, [])


@pytest.mark.parametrize(
    ("name", "accepted", "refused"),
    [
        ("n_components", [1, 1000, 10.0, "10"], [0, 1001, 1.5, True, "1e1", None, [1], float("nan")]),
        ("max_iter", [1, 10_000], [0, 10_001, "__import__('os')", -1]),
        ("random_state", [0, 4_294_967_295], [-1, 4_294_967_296, 0.5]),
        ("alpha", [0, 10, 0.5], [-0.1, 10.1, float("inf"), float("nan"), "0.5", True]),
        ("l1_ratio", [0, 1], [-0.1, 1.1]),
        ("tol", [0, 1, 1e-9], [-1, 2]),
        ("solver", ["mu", "cd"], ["MU", "", None, 1]),
        ("init", ["random", "nndsvd", "nndsvda", "nndsvdar"], ["custom"]),
        ("beta_loss", ["frobenius"], ["kullback-leibler", 2]),
        ("tpyo", [], [1]),
    ],
)
def test_hyperparameters_have_bounds(name: str, accepted: list[Any], refused: list[Any]) -> None:
    for value in accepted:
        assert name in nmf.check({name: value})[0]
    for value in refused:
        with pytest.raises(InvalidInput) as refusal:
            nmf.check({name: value})
        assert refusal.value.errors[0].loc == ("hyperparameters", name)


def test_an_unknown_name_is_told_those_that_are_known_and_some_are_passed_over() -> None:
    with pytest.raises(InvalidInput, match=r"known are n_components, solver, max_iter"):
        nmf.check({"tpyo": 1})
    checked, notes = nmf.check({"batch_size": 7, "old": 1, "n_components": "8"}, ignore=["old"])
    assert checked == {"n_components": 8}
    assert len(notes) == 2
