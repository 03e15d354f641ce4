"""What an author specifies about an algorithm for the conformance suite, and the data that the suite fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from recserver._internal.algorithms.interactions import Interactions, to_indptr
from recserver._internal.algorithms.item_item_weights import ItemItemWeights
from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.algorithms.protocol import Algorithm, FitContext, FittedModel
from recserver._internal.core.errors import TrainingFailed
from recserver.testing._checks import check, check_sentence, must_raise, must_work, through_json

Row = tuple[int, int, float]
"""Numbers of a user and an item, and a rating."""


class AlgorithmUnderTest:
    """Fill in ``name``. Everything else has a default."""

    name: ClassVar[str]
    """The name of the algorithm's entry point."""

    personal: ClassVar[bool] = True
    """Whether recommendations depend on the user, so that they must be better than popular items."""

    hyperparameters: ClassVar[Mapping[str, Any]] = {}
    """Hyperparameters that replace defaults in the tests, such as fewer iterations."""

    def algorithm(self) -> Algorithm:
        """The algorithm, found as a server finds it. Override it if its package is not installed."""
        return load_algorithm(self.name)

    def fitted(self, interactions: Interactions, threads: int = 1) -> FittedModel:
        """A fit as in a training: after ``tune``."""
        algorithm, context = self.algorithm(), FitContext(threads)
        hyperparameters = {**algorithm.default_params, **self.hyperparameters}
        tuned = algorithm.tune(interactions, hyperparameters, context)
        return algorithm.fit(interactions, {**hyperparameters, **tuned}, context)

    def check_fits(self, description: str, interactions: Interactions) -> FittedModel:
        """Check that the algorithm learns from such data, and that the fitted model is valid."""
        with must_work(f"The algorithm must learn from {description}"):
            model = self.fitted(interactions)
        check_valid(model, description, interactions)
        return model

    def check_refuses(self, description: str, interactions: Interactions) -> None:
        """Check that the algorithm refuses such data, with and without ``tune``, with a sentence."""
        algorithm = self.algorithm()
        hyperparameters = {**algorithm.default_params, **self.hyperparameters}
        with must_raise(TrainingFailed, f"A training on {description} must raise TrainingFailed"):
            self.fitted(interactions)
        with must_raise(TrainingFailed, f"A fit without tuning to {description} must raise TrainingFailed"):
            algorithm.fit(interactions, hyperparameters, FitContext())


def interactions_of(rows: Sequence[Row]) -> Interactions:
    """Interactions of these rows, which must hold each pair once."""
    user, item, rating = (np.array(column) for column in zip(*sorted(rows), strict=True))
    users, user_indices = np.unique(user, return_inverse=True)
    items, item_indices = np.unique(item, return_inverse=True)
    return Interactions(
        users=[f"u{number:05}" for number in users],
        items=[f"i{number:05}" for number in items],
        indptr=to_indptr(np.bincount(user_indices)),
        indices=item_indices.astype(np.int32),
        ratings=rating.astype(np.float32),
        rows_used=len(rows),
    )


def random_rows(users: int, items: int, density: float = 0.2, seed: int = 0) -> list[Row]:
    """Random rows, at least one per user, with ratings from 1 to 5."""
    random = np.random.default_rng(seed)
    taken = random.random((users, items)) < density
    taken[np.arange(users), random.integers(items, size=users)] = True
    ratings = random.integers(1, 6, size=(users, items))
    return [(user, item, float(ratings[user, item])) for user, item in np.argwhere(taken).tolist()]


def clustered_rows(users: int = 240, clusters: int = 8, items_each: int = 20) -> list[Row]:
    """Each user belongs to a cluster, and takes half of the items of that cluster and a few of all others."""
    random = np.random.default_rng(1)
    cluster_of = np.arange(users) % clusters
    in_cluster = cluster_of[:, None] == np.arange(clusters * items_each) // items_each
    taken = random.random(in_cluster.shape) < np.where(in_cluster, 0.5, 0.03)
    return [(user, item, 4.0 if in_cluster[user, item] else 3.0) for user, item in np.argwhere(taken).tolist()]


def check_valid(model: FittedModel, description: str, interactions: Interactions) -> None:
    """Check shapes, types and values of a fitted model."""
    prefix = f"After a fit to {description},"
    n_users, n_items = len(interactions.users), len(interactions.items)
    for name, array, rows in (("users", model.users, n_users), ("items", model.items, n_items)):
        check(
            isinstance(array, np.ndarray) and array.dtype == np.float32,
            f"{prefix} {name} must be an array of float32, not {getattr(array, 'dtype', type(array))}.",
        )
        check(
            array.ndim == 2 and len(array) == rows,
            f"{prefix} {name} must be of shape ({rows}, k), not {array.shape}.",
        )
    widths = model.users.shape[1], model.items.shape[1]
    check(widths[0] == widths[1], f"{prefix} users and items must have the same number of factors, not {widths}.")
    if model.neighbors is not None:
        _check_neighbors(model.neighbors, prefix, interactions)
    check(model.is_finite(), f"{prefix} every number must be finite.")
    through_json([model.metrics, model.hyperparameters], f"{prefix} metrics and hyperparameters")
    for warning in model.warnings:
        check_sentence(warning, f"{prefix} each warning")


def _check_neighbors(neighbors: ItemItemWeights, prefix: str, interactions: Interactions) -> None:
    n_items = len(interactions.items)
    dtypes = {"indptr": np.int64, "indices": np.int32, "weights": np.float32, "confidences": np.float32}
    for name, expected_dtype in dtypes.items():
        dtype = getattr(neighbors, name).dtype
        check(
            dtype == expected_dtype, f"{prefix} neighbors.{name} must be {np.dtype(expected_dtype)}, not {dtype}."
        )
    lengths = len(neighbors.indptr), len(neighbors.weights), len(neighbors.confidences)
    expected = n_items + 1, len(neighbors.indices), interactions.n_pairs
    check(
        lengths == expected,
        f"{prefix} neighbors.indptr, weights and confidences must have {expected} entries, not {lengths}.",
    )
    indptr, indices = neighbors.indptr, neighbors.indices
    check(
        indptr[0] == 0 and indptr[-1] == len(indices) and bool((np.diff(indptr) >= 0).all()),
        f"{prefix} neighbors.indptr must ascend from 0 to the number of weights.",
    )
    positions = np.repeat(np.arange(n_items), np.diff(indptr)) * n_items + indices
    check(
        bool((np.diff(positions) > 0).all()) and bool(((indices >= 0) & (indices < n_items)).all()),
        f"{prefix} neighbors.indices must be items, ascending within a row.",
    )


def first_difference(first: FittedModel, second: FittedModel) -> str | None:
    """The name of an array that differs between two fitted models; None if all are equal to the last bit."""
    for name in ("users", "items", "item_scale"):
        if not _same(getattr(first, name), getattr(second, name)):
            return name
    for name in ("indptr", "indices", "weights", "confidences"):
        if not _same(getattr(first.neighbors, name, None), getattr(second.neighbors, name, None)):
            return f"neighbors.{name}"
    return None if first.hyperparameters == second.hyperparameters else "hyperparameters"


def _same(first: Any, second: Any) -> bool:
    if first is None or second is None:
        return first is second
    return bool(first.shape == second.shape and first.tobytes() == second.tobytes())
