"""What is measured of other libraries: they fit the same training part, and leave their factors in a file.

These functions run in children of :mod:`bench.child`, one of which may have an interpreter of its own: nothing of
ours is imported here.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.child import THREADS

Work = Callable[[], Callable[[], None]]


def scikit_nmf(split: str, out: str, setting: str) -> Work:
    """scikit-learn's NMF with its defaults, of the ratings as they are or of ones, 0 if missing."""
    from sklearn.decomposition import NMF

    chosen = json.loads(setting)
    matrix = _matrix(split, binary=chosen["ratings"] == "binary")
    model = NMF(n_components=chosen["k"], random_state=0)
    warnings.simplefilter("ignore")  # that it did not converge within its 200 iterations
    NMF(n_components=1, max_iter=1).fit(np.ones((2, 2), np.float32))

    def work() -> Callable[[], None]:
        users = model.fit_transform(matrix)
        return lambda: np.savez(out, users=users, items=model.components_.T)

    return work


def implicit_als(split: str, out: str, setting: str) -> Work:
    """ALS of ``implicit``, with BLAS on one thread beside its own ones, as it recommends."""
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    chosen = json.loads(setting)
    matrix = csr_matrix(_matrix(split, binary=True))
    threadpool_limits(1, user_api="blas")
    model = AlternatingLeastSquares(**chosen, iterations=15, num_threads=THREADS, random_state=0, use_gpu=False)

    def work() -> Callable[[], None]:
        model.fit(matrix, show_progress=False)
        return lambda: np.savez(out, users=model.user_factors, items=model.item_factors)

    return work


def lenskit_mf(split: str, out: str, setting: str) -> Work:
    """LensKit's implicit matrix factorisation."""
    import pandas as pd
    from lenskit.als import ImplicitMFScorer
    from lenskit.data import from_interactions_df
    from lenskit.training import TrainingOptions

    matrix = _matrix(split, binary=True)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    data = from_interactions_df(pd.DataFrame({"user_id": rows, "item_id": matrix.indices}))
    model = ImplicitMFScorer(**json.loads(setting))

    def work() -> Callable[[], None]:
        model.train(data, TrainingOptions(rng=0))
        return keep

    def keep() -> None:
        users = _by_number(model.users.ids(), model.user_embeddings, matrix.shape[0])
        np.savez(out, users=users, items=_by_number(model.items.ids(), model.item_embeddings, matrix.shape[1]))

    return work


def _by_number(ids: Any, factors: Any, n: int) -> Any:
    found = np.zeros((n, factors.shape[1]), np.float32)
    found[np.asarray(ids)] = factors
    return found


def _matrix(split: str, *, binary: bool) -> Any:
    from scipy.sparse import csr_array

    with np.load(split) as found:
        ratings = np.maximum(found["ratings"], 0)
        shape = len(found["user_offsets"]) - 1, len(found["item_offsets"]) - 1
        values = (ratings > 0).astype(np.float32) if binary else ratings
        return csr_array((values, found["indices"], found["indptr"].astype(np.int32)), shape=shape)
