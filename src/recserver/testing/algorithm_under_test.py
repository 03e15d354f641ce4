"""What the conformance suite must be told of an algorithm, and the data that it is then given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from recserver.algorithms.interactions import Interactions
from recserver.algorithms.lookup import load_algorithm
from recserver.algorithms.protocol import Algorithm, FitContext, FittedModel
from recserver.core.errors import TrainingFailed
from recserver.testing.observed_chef import check, is_sentence

Row = tuple[int, int, float]
"""The number of a user, that of an item, and a rating."""


class AlgorithmUnderTest:
    """What there is to fill in: ``name``. The rest has defaults."""

    name: ClassVar[str]
    """Under which the algorithm is found."""

    personal: ClassVar[bool] = True
    """Whether it recommends different things to different people, so that it has to beat what is popular."""

    hyperparameters: ClassVar[Mapping[str, Any]] = {}
    """What to fit with in place of the defaults; fewer iterations, say."""

    def algorithm(self) -> Algorithm:
        """The algorithm, found as a server finds it. Override it where nothing is installed."""
        return load_algorithm(self.name)

    def fitted(self, interactions: Interactions, threads: int = 1) -> FittedModel:
        """A fit as a training does it: what is left to the data is chosen before."""
        method, surroundings = self.algorithm(), FitContext(threads)
        given = {**method.default_params, **self.hyperparameters}
        chosen = method.tune(interactions, given, surroundings)
        return method.fit(interactions, {**given, **chosen}, surroundings)

    def check_fits(self, description: str, interactions: Interactions) -> FittedModel:
        """A fit to data of which a sentence says what they are; they can be learned from, and the fit is sound."""
        try:
            factors = self.fitted(interactions)
        except Exception as error:
            raise AssertionError(f"The algorithm must learn from {description}, and raised {error!r}.") from error
        check_sound(factors, description, interactions)
        return factors

    def check_refuses(self, description: str, interactions: Interactions) -> None:
        """There is nothing to learn from such data, and the algorithm says so."""
        for how, fit in self._fit_variants():
            try:
                fit(interactions)
            except TrainingFailed as error:
                sentence = str(error)
                check(
                    is_sentence(sentence),
                    f"TrainingFailed for {description} must be a sentence, not {sentence!r}.",
                )
            except Exception as error:
                raise AssertionError(f"{how} {description} must raise TrainingFailed, not {error!r}.") from error
            else:
                raise AssertionError(f"{how} {description} must raise TrainingFailed: there is nothing to learn.")

    def _fit_variants(self) -> Sequence[tuple[str, Callable[[Interactions], FittedModel]]]:
        method = self.algorithm()
        given = {**method.default_params, **self.hyperparameters}
        return [
            ("A training on", self.fitted),
            ("A fit without choosing to", lambda one: method.fit(one, given, FitContext())),
        ]


def interactions_of(rows: Sequence[Row]) -> Interactions:
    """Interactions of these rows, of which no two have the same pair."""
    user, item, rating = (np.array(column) for column in zip(*sorted(rows), strict=True))
    users, user_places = np.unique(user, return_inverse=True)
    items, item_places = np.unique(item, return_inverse=True)
    return Interactions(
        users=[f"u{one:05}" for one in users],
        items=[f"i{one:05}" for one in items],
        indptr=np.concatenate([[0], np.cumsum(np.bincount(user_places))]).astype(np.int64),
        indices=item_places.astype(np.int32),
        ratings=rating.astype(np.float32),
        rows_used=len(rows),
    )


def random_rows(users: int, items: int, share: float = 0.2, seed: int = 0) -> list[Row]:
    """Random rows, at least one a user, of ratings from 1 to 5."""
    random = np.random.default_rng(seed)
    taken = random.random((users, items)) < share
    taken[np.arange(users), random.integers(items, size=users)] = True
    ratings = random.integers(1, 6, size=(users, items))
    return [(user, item, float(ratings[user, item])) for user, item in np.argwhere(taken).tolist()]


def clustered_rows(users: int = 240, kinds: int = 8, items_each: int = 20) -> list[Row]:
    """Everybody is of a kind, and takes half of the items of that kind, and a few of all others."""
    random = np.random.default_rng(1)
    kind_of = np.arange(users) % kinds
    own = kind_of[:, None] == np.arange(kinds * items_each) // items_each
    taken = random.random(own.shape) < np.where(own, 0.5, 0.03)
    return [(user, item, 4.0 if own[user, item] else 3.0) for user, item in np.argwhere(taken).tolist()]


def check_sound(factors: FittedModel, description: str, interactions: Interactions) -> None:
    """Shapes, types and numbers are what recserver takes."""
    n_users, n_items = len(interactions.users), len(interactions.items)
    for name, array, rows in (("users", factors.users, n_users), ("items", factors.items, n_items)):
        check(
            isinstance(array, np.ndarray) and array.dtype == np.float32,
            f"Of {description}: {name} must be an array of float32, not {getattr(array, 'dtype', type(array))}.",
        )
        check(
            array.ndim == 2 and len(array) == rows,
            f"Of {description}: {name} must be of shape ({rows}, k), not {array.shape}.",
        )
    widths = factors.users.shape[1], factors.items.shape[1]
    check(widths[0] == widths[1], f"Of {description}: users and items must have as many factors, not {widths}.")
    if factors.neighbors is not None:
        _check_neighbors(factors, description, interactions)
    check(factors.is_finite(), f"Of {description}: every number must be finite.")
    try:
        json.dumps([factors.metrics, factors.hyperparameters], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"Of {description}: metrics and hyperparameters must be what JSON can hold ({error}): "
            f"{factors.metrics}."
        ) from error
    for warning in factors.warnings:
        check(is_sentence(warning), f"Of {description}: each warning must be a sentence, not {warning!r}.")


def _check_neighbors(factors: FittedModel, description: str, interactions: Interactions) -> None:
    found, n_items = factors.neighbors, len(interactions.items)
    if found is None:
        return
    kinds = {"indptr": np.int64, "indices": np.int32, "weights": np.float32, "strengths": np.float32}
    for name, kind in kinds.items():
        own = getattr(found, name).dtype
        check(own == kind, f"Of {description}: the neighbours' {name} must be {np.dtype(kind)}, not {own}.")
    lengths = len(found.indptr), len(found.weights), len(found.confidences)
    expected = n_items + 1, len(found.indices), interactions.n_pairs
    check(
        lengths == expected,
        f"Of {description}: the neighbours' indptr, weights and strengths must have {expected} entries, "
        f"not {lengths}.",
    )
    rows = np.repeat(np.arange(n_items), np.diff(found.indptr))
    places = rows * n_items + found.indices
    check(
        found.indptr[0] == 0
        and found.indptr[-1] == len(found.indices)
        and bool((np.diff(found.indptr) >= 0).all()),
        f"Of {description}: the neighbours' indptr must lead from 0 to the number of weights, ascending.",
    )
    check(
        bool((np.diff(places) > 0).all()) and bool(((found.indices >= 0) & (found.indices < n_items)).all()),
        f"Of {description}: the neighbours' indices must be items, ascending within a row.",
    )


def first_difference(one: FittedModel, other: FittedModel) -> str | None:
    """The name of an array in which two fits differ; None if they are the same to the last bit."""
    for name in ("users", "items", "item_scale"):
        if not _same(getattr(one, name), getattr(other, name)):
            return name
    for name in ("indptr", "indices", "weights", "strengths"):
        if not _same(getattr(one.neighbors, name, None), getattr(other.neighbors, name, None)):
            return f"the neighbours' {name}"
    return None if one.hyperparameters == other.hyperparameters else "hyperparameters"


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return bool(one.shape == other.shape and one.tobytes() == other.tobytes())
