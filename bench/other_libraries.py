"""Matrix factorisation of other libraries: fit the training part of a split, and write the factors to a file.

These functions are for :mod:`bench.fresh_process`. LensKit may run in an interpreter without recserver, so
recserver is not imported here.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.fresh_process import THREADS

Fit = Callable[[], Callable[[], None]]


def scikit_nmf(split: str, out: str, setting: str) -> Fit:
    """scikit-learn's NMF with its defaults, of ratings or of binary feedback, 0 for unobserved pairs."""
    from sklearn.decomposition import NMF

    hyperparameters = json.loads(setting)
    matrix = _matrix(split, binary=hyperparameters["ratings"] == "binary")
    model = NMF(n_components=hyperparameters["k"], random_state=0)
    warnings.simplefilter("ignore")  # it may not converge within its 200 iterations
    NMF(n_components=1, max_iter=1).fit(np.ones((2, 2), np.float32))

    def fit() -> Callable[[], None]:
        users = model.fit_transform(matrix)
        return lambda: np.savez(out, users=users, items=model.components_.T)

    return fit


def implicit_als(split: str, out: str, setting: str) -> Fit:
    """ALS of ``implicit``, with a single BLAS thread, as its documentation recommends."""
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    hyperparameters = json.loads(setting)
    matrix = csr_matrix(_matrix(split, binary=True))
    threadpool_limits(1, user_api="blas")
    model = AlternatingLeastSquares(
        **hyperparameters, iterations=15, num_threads=THREADS, random_state=0, use_gpu=False
    )

    def fit() -> Callable[[], None]:
        model.fit(matrix, show_progress=False)
        return lambda: np.savez(out, users=model.user_factors, items=model.item_factors)

    return fit


def lenskit_mf(split: str, out: str, setting: str) -> Fit:
    """LensKit's implicit matrix factorisation."""
    import pandas as pd
    from lenskit.als import ImplicitMFScorer
    from lenskit.data import from_interactions_df
    from lenskit.training import TrainingOptions

    matrix = _matrix(split, binary=True)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    data = from_interactions_df(pd.DataFrame({"user_id": rows, "item_id": matrix.indices}))
    model = ImplicitMFScorer(**json.loads(setting))

    def fit() -> Callable[[], None]:
        model.train(data, TrainingOptions(rng=0))
        return save

    def save() -> None:
        users = _dense_rows(model.users.ids(), model.user_embeddings, matrix.shape[0])
        np.savez(out, users=users, items=_dense_rows(model.items.ids(), model.item_embeddings, matrix.shape[1]))

    return fit


def _dense_rows(ids: Any, factors: Any, n: int) -> Any:
    """The factors of all ``n`` users or items, 0 for those that the library left out."""
    rows = np.zeros((n, factors.shape[1]), np.float32)
    rows[np.asarray(ids)] = factors
    return rows


def _matrix(split: str, *, binary: bool) -> Any:
    from scipy.sparse import csr_array

    with np.load(split) as arrays:
        ratings = np.maximum(arrays["ratings"], 0)
        header = json.loads(arrays["header"].tobytes())
        shape = len(header["users"]), len(header["items"])
        values = (ratings > 0).astype(np.float32) if binary else ratings
        return csr_array((values, arrays["indices"], arrays["indptr"].astype(np.int32)), shape=shape)
