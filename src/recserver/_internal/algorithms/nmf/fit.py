"""The steps of an nmf fit: factors by one of three solvers, the neighbour term, and the fold-in."""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy.sparse import csr_array

from recserver._internal.algorithms.fold_in import FoldIn
from recserver._internal.algorithms.item_item_weights import ItemItemWeights
from recserver._internal.algorithms.nearest_items import ItemColumns, nearest_items
from recserver._internal.algorithms.nmf import hals
from recserver._internal.algorithms.nmf.hals import Factorisation, Matrix, Penalty
from recserver._internal.algorithms.nmf.params import NMFParams
from recserver._internal.algorithms.preprocessing import InputMatrices
from recserver._internal.algorithms.protocol import FitContext
from recserver._internal.algorithms.slim import RIDGE, as_neighbors, item_weights


def fit_factors(
    inputs: InputMatrices, params: NMFParams, context: FitContext, warning_messages: list[str]
) -> Factorisation:
    """The factors of ``inputs.normalised``."""
    penalties = penalties_for(inputs.normalised, params)
    if params.solver != "hals":
        return _fit_with_sklearn(inputs.normalised, params, penalties)
    if params.init != "random":
        warning_messages.append(
            f'init "{params.init}" is only used by the solvers cd and mu: hals starts from random factors.'
        )
    return hals.factorize(
        inputs.normalised,
        usable_warm_start(params, context)
        or hals.random_start(inputs.normalised, params.n_components, params.random_state),
        penalties,
        max_iter=params.max_iter,
        tol=params.tol,
        threads=context.threads,
        on_iteration=context.on_iteration,
    )


def fit_neighbors(inputs: InputMatrices, params: NMFParams, item_factors: Matrix, threads: int) -> ItemItemWeights:
    """The neighbour term times the blend. Items with the same largest factor count as similar for the order."""
    columns = ItemColumns.of(inputs.weights, params.random_state)
    nearest, _ = nearest_items(columns, params.neighbors, threads)
    order = np.lexsort((nearest[:, 0], item_factors.argmax(axis=1))).astype(np.int32)
    weights = item_weights(columns, nearest, order, threads, RIDGE * inputs.ridge_unit)
    return as_neighbors(weights * np.float32(params.blend or 0.0), inputs.confidences.data)


def build_fold_in(inputs: InputMatrices, params: NMFParams, item_factors: Matrix) -> FoldIn:
    """The fold-in by the objective of the fit."""
    penalty, share = penalties_for(inputs.normalised, params)[0], 1 - (params.blend or 0.0)
    return inputs.fold_in(item_factors, share, nonnegative=True, l2=penalty.l2, l1=penalty.l1)


def penalties_for(matrix: csr_array, params: NMFParams) -> tuple[Penalty, Penalty]:
    """Penalties of the users' and items' factors: scikit-learn's, plus a share of the largest singular value."""
    users, items = matrix.shape
    share = params.regularization or 0.0
    common = share * hals.largest_singular_value(matrix) if share else 0.0
    l1, l2 = params.alpha * params.l1_ratio, params.alpha * (1 - params.l1_ratio)
    return Penalty(common + l2 * items, l1 * items), Penalty(common + l2 * users, l1 * users)


def usable_warm_start(params: NMFParams, context: FitContext) -> tuple[Matrix, Matrix] | None:
    """The factors to start from; None if there are none, or their rank or the solver does not match."""
    start = context.warm_start
    if start is None or start.items.shape[1] != params.n_components or params.solver != "hals":
        return None
    return start.users, start.items


def _fit_with_sklearn(matrix: csr_array, params: NMFParams, penalties: tuple[Penalty, Penalty]) -> Factorisation:
    """scikit-learn multiplies the users' penalty by the number of items, and the items' by the number of users."""
    from sklearn.decomposition import NMF as ScikitNMF
    from sklearn.exceptions import ConvergenceWarning

    users, items = matrix.shape
    alpha_w, alpha_h = (penalty.l2 + penalty.l1 for penalty in penalties)
    model = ScikitNMF(
        n_components=params.n_components,
        solver=params.solver,
        max_iter=params.max_iter,
        random_state=params.random_state,
        alpha_W=alpha_w / items,
        alpha_H=alpha_h / users,
        l1_ratio=penalties[0].l1 / alpha_w if alpha_w else 0.0,
        tol=params.tol,
        init=params.init,
        beta_loss=params.beta_loss,
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # reaching max_iter is expected
        warnings.filterwarnings("ignore", message="The multiplicative update .* zeros")
        warnings.simplefilter("ignore", RuntimeWarning)  # callers reject values that are not finite
        rows = model.fit_transform(matrix)
    error = float(model.reconstruction_err_)
    return Factorisation(
        rows=np.ascontiguousarray(rows, np.float32),
        columns=np.ascontiguousarray(model.components_.T, np.float32),
        iterations=model.n_iter_,
        loss=float("nan"),
        error=0.0 if math.isnan(error) else error,  # nan: rounding made its square negative
    )
