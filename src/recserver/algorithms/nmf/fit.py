"""The parts of an nmf fit, in a worker: factors by one of three solvers, and the neighbour term."""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy.sparse import csr_array

from recserver.algorithms.fold_in import FoldIn
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.item_weights import L2, Columns, as_neighbors, item_weights, nearest
from recserver.algorithms.neighbors import Neighbors
from recserver.algorithms.nmf.hals import (
    Factorisation,
    Matrix,
    Penalty,
    factorize,
    largest_singular_value,
    random_start,
)
from recserver.algorithms.nmf.params import NMFParams
from recserver.algorithms.preprocessing import EXPONENT, Matrices, matrices
from recserver.algorithms.protocol import Surroundings


def to_fit(interactions: Interactions, params: NMFParams, notes: list[str]) -> Matrices:
    """The matrices that the hyperparameters ask for."""
    return matrices(interactions, notes, feedback=params.feedback, exponent=_exponent(params))


def _exponent(params: NMFParams) -> float:
    return EXPONENT if params.weighting == "degree" else 0.0


def factors_of(found: Matrices, params: NMFParams, surroundings: Surroundings, notes: list[str]) -> Factorisation:
    """The factors of ``found.factored``."""
    penalties = penalties_of(found.factored, params)
    if params.solver != "hals":
        return _by_scikit_learn(found.factored, params, penalties)
    if params.init != "random":
        notes.append(f'init "{params.init}" is used by the solvers cd and mu only: hals started at random.')
    return factorize(
        found.factored,
        start_of(params, surroundings) or random_start(found.factored, params.n_components, params.random_state),
        penalties,
        max_iter=params.max_iter,
        tol=params.tol,
        threads=surroundings.threads,
        told=surroundings.told,
    )


def fit_neighbors(found: Matrices, params: NMFParams, item_factors: Matrix, threads: int) -> Neighbors:
    """The neighbour term, times the blend. Items of the same largest factor are taken to be alike."""
    columns = Columns.of(found.worth, params.random_state)
    likest, _ = nearest(columns, params.neighbors, threads)
    order = np.lexsort((likest[:, 0], item_factors.argmax(axis=1))).astype(np.int32)
    weights = item_weights(columns, likest, order, threads, L2 * found.ridge_unit)
    return as_neighbors(weights * np.float32(params.blend or 0.0), found.strengths.data)


def fold_in_of(found: Matrices, params: NMFParams, item_factors: Matrix) -> FoldIn:
    """How factors follow from interactions, by the objective of the fit."""
    own, share = penalties_of(found.factored, params)[0], 1 - (params.blend or 0.0)
    return found.fold_in(
        exponent=_exponent(params),
        items=item_factors,
        scale=found.item_scale * np.float32(share),
        share=share,
        nonnegative=True,
        l2=own.l2,
        l1=own.l1,
    )


def penalties_of(matrix: csr_array, params: NMFParams) -> tuple[Penalty, Penalty]:
    """Of the users' and the items' factors: scikit-learn's, plus the share of the largest singular value."""
    users, items = matrix.shape
    share = params.regularization or 0.0
    shared = share * largest_singular_value(matrix) if share else 0.0
    l1, l2 = params.alpha * params.l1_ratio, params.alpha * (1 - params.l1_ratio)
    return Penalty(shared + l2 * items, l1 * items), Penalty(shared + l2 * users, l1 * users)


def start_of(params: NMFParams, surroundings: Surroundings) -> tuple[Matrix, Matrix] | None:
    """The factors to start from; None for chance: there are none, of another rank, or for another solver."""
    earlier = surroundings.start
    if earlier is None or earlier.items.shape[1] != params.n_components or params.solver != "hals":
        return None
    return earlier.users, earlier.items


def _by_scikit_learn(matrix: csr_array, params: NMFParams, penalties: tuple[Penalty, Penalty]) -> Factorisation:
    """scikit-learn multiplies the users' penalty by the number of items, and the items' by that of users."""
    from sklearn.decomposition import NMF as ScikitNMF
    from sklearn.exceptions import ConvergenceWarning

    users, items = matrix.shape
    own, other = (one.l2 + one.l1 for one in penalties)
    model = ScikitNMF(
        n_components=params.n_components,
        solver=params.solver,
        max_iter=params.max_iter,
        random_state=params.random_state,
        alpha_W=own / items,
        alpha_H=other / users,
        l1_ratio=penalties[0].l1 / own if own else 0.0,
        tol=params.tol,
        init=params.init,
        beta_loss=params.beta_loss,
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # running out of max_iter is a choice
        warnings.filterwarnings("ignore", message="The multiplicative update .* zeros")
        warnings.simplefilter("ignore", RuntimeWarning)  # values that are not finite are refused by whoever asked
        rows = model.fit_transform(matrix)
    distance = float(model.reconstruction_err_)
    return Factorisation(
        rows=np.ascontiguousarray(rows, np.float32),
        columns=np.ascontiguousarray(model.components_.T, np.float32),
        iterations=model.n_iter_,
        loss=float("nan"),
        error=0.0 if math.isnan(distance) else distance,  # the root of what rounding left below zero
    )
