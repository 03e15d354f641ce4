"""Models to ask: fitted and packed as a training does it, or made of random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.fold_in import FoldIn, Weighting
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.item_item_weights import ItemItemWeights
from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.algorithms.protocol import FitContext, FittedModel
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.recommend.model.attribute_arrays import Attribute, Kind
from recserver._internal.recommend.model.item_attributes import Attributes
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.storage.model_file.id_table import IdIndex, pack_ids
from recserver._internal.training.jobs import TrainingJob
from recserver._internal.training.worker.train import finish_training

Array = NDArray[Any]


def trained(
    path: Path, name: str, interactions: Interactions, given: Mapping[str, Any]
) -> tuple[FittedModel, Recommender]:
    """What an algorithm fits, and the model that is made of it, by way of a file at ``path``."""
    method = load_algorithm(name)
    job = TrainingJob(
        model_id="m",
        model_version=1,
        algorithm=name,
        hyperparameters=dict(given),
        data_chef_id="c",
        data_chef={},
        policy=SourcePolicy(data_dir=path.parent),
        out=path,
    )
    factors = method.fit(interactions, given, FitContext())
    finish_training(job, method, interactions, factors, "0")
    return factors, load_model(path)[1]


def made(
    n_items: int = 30, k: int = 4, *, n_users: int = 6, neighbors: bool = False, seed: int = 0, **changes: Any
) -> Recommender:
    """A model of random numbers; ``changes`` replace its parts."""
    random = np.random.default_rng(seed)
    items = random.standard_normal((k, n_items)).astype(np.float32)
    taken = random.random((n_users, n_items)) < 0.2
    indptr = np.concatenate([[0], np.cumsum(taken.sum(axis=1))]).astype(np.int64)
    indices = np.nonzero(taken)[1].astype(np.int32)
    strengths = (random.random(len(indices)) + 0.5).astype(np.float32)
    parts: dict[str, Any] = {
        "model_version": 1,
        "users": IdIndex(*pack_ids([f"u{number:03}" for number in range(n_users)])),
        "items": IdIndex(*pack_ids([f"i{number:05}" for number in range(n_items)])),
        "user_factors": random.standard_normal((n_users, k)).astype(np.float32),
        "item_factors": items,
        "seen_indptr": indptr,
        "seen_indices": indices,
        "seen_confidences": strengths,
        "item_counts": taken.sum(axis=0),
        "popularity": taken.mean(axis=0).astype(np.float32),
        "item_norms": np.linalg.norm(items, axis=0),
        "neighbors": _sparse(random, n_items, strengths) if neighbors else None,
        "fold_in": FoldIn(np.ones(n_items, np.float32), items @ items.T, Weighting("ratings"), l2=0.1),
    }
    parts.update(changes)
    return Recommender(**parts)


def _sparse(random: np.random.Generator, n_items: int, strengths: Array) -> ItemItemWeights:
    dense = random.standard_normal((n_items, n_items)) * (random.random((n_items, n_items)) < 0.3)
    np.fill_diagonal(dense, 0)
    kept = dense != 0
    return ItemItemWeights(
        indptr=np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64),
        indices=np.nonzero(kept)[1].astype(np.int32),
        weights=dense[kept].astype(np.float32),
        confidences=strengths.astype(np.float32),
    )


def dense_of(neighbors: ItemItemWeights | None, n_items: int) -> Array:
    """S, shape (items, items), in double precision; zeros where there are no neighbors."""
    found = np.zeros((n_items, n_items))
    if neighbors is not None:
        rows = np.repeat(np.arange(n_items), np.diff(neighbors.indptr))
        found[rows, neighbors.indices] = neighbors.weights
    return found


def with_kinds(kinds: list[list[str]], prices: list[float] | None = None) -> Attributes:
    """Attributes: the texts ``kind`` of each item, which may be none or several, and a number ``price``."""
    terms = sorted({text for own in kinds for text in own}, key=str.encode)
    having = [[place for place, own in enumerate(kinds) if text in own] for text in terms]
    numbers = np.array([prices if prices is not None else [0.0] * len(kinds)])
    return Attributes(
        n_items=len(kinds),
        indptr=np.concatenate([[0], np.cumsum([len(one) for one in having])]).astype(np.int64),
        items=np.array([place for one in having for place in one], np.int32),
        numbers=numbers,
        known=np.ones(numbers.shape, np.uint8),
        by_name={
            "kind": Attribute(Kind.TEXT, terms=IdIndex(*pack_ids(terms)), multivalued=True),
            "price": Attribute(Kind.NUMBER),
        },
    )


def own_of(interactions: Interactions, user: int) -> dict[str, float]:
    """The ratings of one user, by item id."""
    own = slice(interactions.indptr[user], interactions.indptr[user + 1])
    ratings = interactions.ratings[own].tolist()
    return {
        interactions.items[place]: rating for place, rating in zip(interactions.indices[own], ratings, strict=True)
    }
