"""Time until recserver's NMF solver reaches the objective of scikit-learn's after 200 iterations."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from scipy.sparse import csr_array

from bench.datasets import datasets
from bench.fresh_process import NOTE, THREADS, Measurement, measure_in_process
from bench.report import report_rows
from bench.settings import rounds
from bench.splits import read_interactions
from recserver._internal.algorithms.nmf.fit import penalties_for
from recserver._internal.algorithms.nmf.hals import Matrix, Penalty, factorize, random_start
from recserver._internal.algorithms.nmf.params import NMFParams
from recserver._internal.algorithms.preprocessing import input_matrices

PARAMS = NMFParams(n_components=64, regularization=0.09)
ITERATIONS, MAX_ITERATIONS = 200, 400
GROWTH = 0.01
INITS = {"same": "the same random factors as recserver", "nndsvda": "its default, nndsvda"}
"""The initialisation of scikit-learn."""

SCIKIT_LEARN = "scikit-learn, 200 iterations"
RECSERVER = {
    "cold start": ("", ""),
    "warm start, from 200 iterations": ("", "iterated"),
    "warm start, from convergence": ("", "converged"),
    "cold start, until convergence": ("converged", ""),
    "warm start, from convergence, until convergence": ("converged", "converged"),
}
"""What is timed: the target and the initial factors. Warm starts use factors of a fit without 1 % of the pairs."""

Result = dict[str, float]
Fit = Callable[[], Callable[[], Result]]


async def main() -> None:
    async for name, csv in datasets():
        for init in INITS:
            await _compare(name, csv, init)


async def _compare(name: str, csv: Path, init: str) -> None:
    fits: dict[str, list[Measurement]] = {}
    with tempfile.TemporaryDirectory() as folder:
        matrix, initial = Path(folder) / "matrix.npz", Path(folder) / "initial.npz"
        size = (await measure_in_process("bench.objective:write_matrices", csv, matrix, initial)).result
        for _ in range(rounds(5)):
            reference = await measure_in_process("bench.objective:fit_scikit_learn", matrix, init)
            fits.setdefault(SCIKIT_LEARN, []).append(reference)
            for variant, (stop, start) in RECSERVER.items():
                target = stop or repr(reference.result["objective"])
                fit = await measure_in_process("bench.objective:fit_recserver", matrix, target, initial, start)
                fits.setdefault(f"recserver, {variant}", []).append(fit)
    report_rows(
        f"objective {name} {init}: time to scikit-learn's objective, k={PARAMS.n_components}",
        _rows(fits),
        f"{NOTE}; {size}; medians of {rounds(5)} rounds; float32; penalties of {PARAMS.regularization} times the "
        f"largest singular value; scikit-learn's coordinate descent with tol 0, initialised with {INITS[init]}. "
        "Only the fit is timed; objectives are computed from the factors in float64. Warm starts use the factors "
        "of a fit without 1 % of the pairs. recserver runs until scikit-learn's objective or, where stated, until "
        f"its own convergence (tol {PARAMS.tol}). Not reached: not within {MAX_ITERATIONS} iterations.",
    )


def _rows(fits: dict[str, list[Measurement]]) -> list[dict[str, object]]:
    base = median(fit.seconds for fit in fits[SCIKIT_LEARN])
    target = fits[SCIKIT_LEARN][-1].result["objective"]
    rows: list[dict[str, object]] = []
    for name, repeats in fits.items():
        seconds = [fit.seconds for fit in repeats]
        result = repeats[-1].result
        rows.append({
            "": name if result["reached"] else f"{name}: not reached",
            "median, s": median(seconds),
            "min": min(seconds),
            "max": max(seconds),
            "CPU s": median(fit.cpu for fit in repeats),
            "iterations": int(result["iterations"]),
            "objective": f"{result['objective']:.4f}",
            "ratio to scikit-learn": f"{result['objective'] / target:.5f}",
            "speed-up": base / median(seconds) if result["reached"] else float("nan"),
        })  # fmt: skip
    return rows


def write_matrices(csv: str, path: str, initial: str) -> Callable[[], str]:
    """Write the matrix of a data set, and initial factors for warm starts, fitted without 1 % of its pairs."""

    def write() -> str:
        full = input_matrices(read_interactions(csv), [], PARAMS.feedback, PARAMS.weighting).normalised
        _save(full, path)
        uniform = np.random.default_rng(0).random(full.nnz)
        matrix = csr_array((full.data.copy(), full.indices, full.indptr), shape=full.shape)
        matrix.data[uniform < GROWTH / (1 + GROWTH)] = 0
        matrix.eliminate_zeros()
        penalties, factors = penalties_for(matrix, PARAMS), dict[str, Matrix]()
        for name, max_iter, tol in (("converged", PARAMS.max_iter, PARAMS.tol), ("iterated", ITERATIONS, 0.0)):
            fit = factorize(matrix, _start(matrix), penalties, max_iter=max_iter, tol=tol, threads=THREADS)
            factors |= {f"{name}_rows": fit.rows, f"{name}_columns": fit.columns}
        np.savez(initial, **factors)
        return f"{full.shape[0]:,} x {full.shape[1]:,}, {full.nnz:,} pairs"

    return write


def fit_scikit_learn(path: str, init: str) -> Fit:
    """200 iterations of scikit-learn's coordinate descent."""
    import warnings

    from sklearn.decomposition import NMF

    matrix = _load(path)
    users, items = matrix.shape
    l2 = penalties_for(matrix, PARAMS)[0].l2
    warnings.simplefilter("ignore")  # it does not converge
    NMF(n_components=1, max_iter=1, init="random").fit(np.ones((2, 2), np.float32))
    method, start = ("custom", _start(matrix)) if init == "same" else (init, (None, None))
    model = NMF(n_components=_rank(matrix), solver="cd", init=method, max_iter=ITERATIONS, tol=0, random_state=0,
                alpha_W=l2 / items, alpha_H=l2 / users)  # fmt: skip

    def fit() -> Callable[[], Result]:
        rows = model.fit_transform(matrix, W=start[0], H=None if start[1] is None else start[1].T.copy())
        columns = np.ascontiguousarray(model.components_.T)
        return lambda: {
            "objective": objective(matrix, rows, columns),
            "iterations": model.n_iter_,
            "reached": True,
        }

    return fit


class _Reached(Exception):
    """Ends a fit whose target is reached."""


def fit_recserver(path: str, target: str, initial: str, name: str) -> Fit:
    """Fit from the initial factors called ``name``, or from random ones.

    Args:
        target: the objective to reach, or ``converged`` for the solver's own stopping criterion. The number of
            iterations that reach an objective is determined before, so that the check is not timed.
    """
    matrix, penalties, start = _load(path), penalties_for(_load(path), PARAMS), None
    if name:
        with np.load(initial) as factors:
            start = factors[f"{name}_rows"], factors[f"{name}_columns"]
    max_iter, reached, tol = PARAMS.max_iter, True, PARAMS.tol
    if target != "converged":
        max_iter, reached = _iterations_to(matrix, start or _start(matrix), penalties, float(target))
        tol = 0.0

    def fit() -> Callable[[], Result]:
        result = factorize(matrix, start or _start(matrix), penalties, max_iter=max_iter, tol=tol, threads=THREADS)
        return lambda: {
            "objective": objective(matrix, result.rows, result.columns),
            "iterations": result.iterations,
            "reached": reached,
        }

    return fit


def _iterations_to(
    matrix: csr_array, start: tuple[Matrix, Matrix], penalties: tuple[Penalty, Penalty], target: float
) -> tuple[int, bool]:
    """The number of iterations until the objective is at most ``target``; False if it is not reached."""
    iterations_run = 0

    def on_iteration(iteration: int, iterations: int, loss: float) -> None:
        nonlocal iterations_run
        iterations_run = iteration
        if loss <= target:
            raise _Reached

    try:
        factorize(
            matrix, start, penalties, max_iter=MAX_ITERATIONS, tol=0, threads=THREADS, on_iteration=on_iteration
        )
    except _Reached:
        return iterations_run, True
    return iterations_run, False


def objective(matrix: csr_array, rows: Matrix, columns: Matrix) -> float:
    """The objective that both solvers minimise, in float64, without a dense matrix of the input's shape."""
    w, h = rows.astype(np.float64), columns.astype(np.float64)
    l2 = penalties_for(matrix, PARAMS)[0].l2
    users = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    cross = 0.0
    for first in range(0, matrix.nnz, 2**18):
        batch = slice(first, first + 2**18)
        cross += float(np.einsum("pk,pk,p->", w[users[batch]], h[matrix.indices[batch]], matrix.data[batch]))
    norm = float(np.square(matrix.data, dtype=np.float64).sum())
    square = norm - 2 * cross + float(((w.T @ w) * (h.T @ h)).sum())
    return square / 2 + l2 / 2 * float(np.square(w).sum() + np.square(h).sum())


def _rank(matrix: csr_array) -> int:
    return min(PARAMS.n_components, *matrix.shape)


def _start(matrix: csr_array) -> tuple[Matrix, Matrix]:
    return random_start(matrix, _rank(matrix), PARAMS.random_state)


def _save(matrix: csr_array, path: str) -> None:
    np.savez(path, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr, shape=matrix.shape)


def _load(path: str) -> csr_array:
    with np.load(path) as arrays:
        parts = arrays["data"], arrays["indices"], arrays["indptr"]
        return csr_array(parts, shape=tuple(arrays["shape"].tolist()))
