"""How long our solver takes to where scikit-learn's NMF is after 200 sweeps, of the same matrix and penalties."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from scipy.sparse import csr_array

from bench.child import NOTE, THREADS, Measured, measured
from bench.datasets import files
from bench.report import report_rows
from bench.rows import rounds
from bench.splits import interactions_of
from recserver.algorithms.nmf.fit import penalties_for
from recserver.algorithms.nmf.hals import Matrix, Penalty, factorize, random_start
from recserver.algorithms.nmf.params import NMFParams
from recserver.algorithms.preprocessing import input_matrices

PARAMS = NMFParams(n_components=64, regularization=0.09)
SWEEPS, MOST_SWEEPS = 200, 400
GROWTH = 0.01
INITS = {"same": "from the same random factors as ours", "nndsvda": "by its own default, nndsvda"}
"""Where scikit-learn starts."""

THEIRS = "scikit-learn, 200 sweeps"
OURS = {
    "cold": ("", ""),
    "warm, from 200 sweeps": ("", "long"),
    "warm, from where it stopped": ("", "short"),
    "cold, until it stops": ("stop", ""),
    "warm, from where it stopped, until it stops": ("stop", "short"),
}
"""What is timed: until when, and from which factors, those of all but the last 1 % of pairs if warm."""

Answer = dict[str, float]
Work = Callable[[], Callable[[], Answer]]


async def main() -> None:
    async for name, csv in files():
        for init in INITS:
            await _compare(name, csv, init)


async def _compare(name: str, csv: Path, init: str) -> None:
    found: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder:
        matrix, before = Path(folder) / "matrix.npz", Path(folder) / "before.npz"
        size = (await measured("bench.objective:preparing", csv, matrix, before)).answer
        for _ in range(rounds(5)):
            theirs = await measured("bench.objective:scikit_learn", matrix, init)
            found.setdefault(THEIRS, []).append(theirs)
            for kind, (way, start) in OURS.items():
                target = way or repr(theirs.answer["objective"])
                one = await measured("bench.objective:ours", matrix, target, before, start)
                found.setdefault(f"ours, {kind}", []).append(one)
    report_rows(
        f"objective {name} {init}: seconds to scikit-learn's objective, k={PARAMS.n_components}",
        _rows(found),
        f"{NOTE}; {size}; medians of {rounds(5)} rounds, in turn; float32; penalties of {PARAMS.regularization} "
        f"of the largest singular value; scikit-learn's coordinate descent, tol 0, starts {INITS[init]}. "
        "Objectives are computed in float64 from the factors. The fit alone; warm starts from fits of its own to "
        "all but 1 % of the pairs. Ours ends where theirs did, or by its own rule where the line says that it "
        f"stops (tol {PARAMS.tol}). Not reached: not in {MOST_SWEEPS} sweeps.",
    )


def _rows(found: dict[str, list[Measured]]) -> list[dict[str, object]]:
    base = median(one.seconds for one in found[THEIRS])
    target = found[THEIRS][-1].answer["objective"]
    rows: list[dict[str, object]] = []
    for kind, tried in found.items():
        seconds = [one.seconds for one in tried]
        answer = tried[-1].answer
        rows.append({
            "": kind if answer["reached"] else f"{kind}: not reached",
            "median, s": median(seconds),
            "lowest": min(seconds),
            "highest": max(seconds),
            "CPU s": median(one.cpu for one in tried),
            "sweeps": int(answer["sweeps"]),
            "objective": f"{answer['objective']:.4f}",
            "to theirs": f"{answer['objective'] / target:.5f}",
            "times as fast": base / median(seconds) if answer["reached"] else float("nan"),
        })  # fmt: skip
    return rows


def preparing(csv: str, path: str, before: str) -> Callable[[], str]:
    """Keep the matrix of a file, and the factors of a fit to it before its last 1 % of pairs came."""

    def work() -> str:
        found = input_matrices(interactions_of(csv), [], PARAMS.feedback, PARAMS.weighting)
        _save(found.normalised, path)
        matrix = found.normalised
        chance = np.random.default_rng(0).random(matrix.nnz)
        matrix = csr_array((matrix.data.copy(), matrix.indices, matrix.indptr), shape=matrix.shape)
        matrix.data[chance < GROWTH / (1 + GROWTH)] = 0
        matrix.eliminate_zeros()
        penalties, kept = penalties_for(matrix, PARAMS), dict[str, Matrix]()
        for name, most, tol in (("short", PARAMS.max_iter, PARAMS.tol), ("long", SWEEPS, 0.0)):
            fit = factorize(matrix, _start(matrix), penalties, max_iter=most, tol=tol, threads=THREADS)
            kept |= {f"{name}_rows": fit.rows, f"{name}_columns": fit.columns}
        np.savez(before, **kept)
        return f"{found.normalised.shape[0]:,} x {found.normalised.shape[1]:,}, {found.normalised.nnz:,} pairs"

    return work


def scikit_learn(path: str, init: str) -> Work:
    """200 sweeps of scikit-learn."""
    import warnings

    from sklearn.decomposition import NMF

    matrix = _load(path)
    users, items = matrix.shape
    l2 = penalties_for(matrix, PARAMS)[0].l2
    warnings.simplefilter("ignore")  # that it did not converge
    NMF(n_components=1, max_iter=1, init="random").fit(np.ones((2, 2), np.float32))
    way, start = ("custom", _start(matrix)) if init == "same" else (init, (None, None))
    model = NMF(n_components=_rank(matrix), solver="cd", init=way, max_iter=SWEEPS, tol=0, random_state=0,
                alpha_W=l2 / items, alpha_H=l2 / users)  # fmt: skip

    def work() -> Callable[[], Answer]:
        rows = model.fit_transform(matrix, W=start[0], H=None if start[1] is None else start[1].T.copy())
        columns = np.ascontiguousarray(model.components_.T)
        return lambda: {"objective": objective(matrix, rows, columns), "sweeps": model.n_iter_, "reached": True}

    return work


class _Reached(Exception):
    """Ends a fit."""


def ours(path: str, target: str, before: str, name: str) -> Work:
    """A fit, from the factors called ``name``.

    Args:
        target: an objective, to where as many sweeps as are needed are timed: how many is found out beforehand, so
            that nothing but they is timed. ``stop``: until its own rule stops it.
    """
    matrix, penalties, start = _load(path), penalties_for(_load(path), PARAMS), None
    if name:
        with np.load(before) as found:
            start = found[f"{name}_rows"], found[f"{name}_columns"]
    most, reached, tol = PARAMS.max_iter, True, PARAMS.tol
    if target != "stop":
        most, reached = _needed(matrix, start or _start(matrix), penalties, float(target))
        tol = 0.0

    def work() -> Callable[[], Answer]:
        fit = factorize(matrix, start or _start(matrix), penalties, max_iter=most, tol=tol, threads=THREADS)
        return lambda: {
            "objective": objective(matrix, fit.rows, fit.columns),
            "sweeps": fit.iterations,
            "reached": reached,
        }

    return work


def _needed(
    matrix: csr_array, start: tuple[Matrix, Matrix], penalties: tuple[Penalty, Penalty], most: float
) -> tuple[int, bool]:
    """Sweeps until the objective is at most ``most``; False if it never is."""
    sweeps = 0

    def told(iteration: int, iterations: int, loss: float) -> None:
        nonlocal sweeps
        sweeps = iteration
        if loss <= most:
            raise _Reached

    try:
        factorize(matrix, start, penalties, max_iter=MOST_SWEEPS, tol=0, threads=THREADS, on_iteration=told)
    except _Reached:
        return sweeps, True
    return sweeps, False


def objective(matrix: csr_array, rows: Matrix, columns: Matrix) -> float:
    """What both minimise, in float64, without anything of the matrix's shape."""
    w, h = rows.astype(np.float64), columns.astype(np.float64)
    l2 = penalties_for(matrix, PARAMS)[0].l2
    owners = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    cross = 0.0
    for first in range(0, matrix.nnz, 2**18):
        some = slice(first, first + 2**18)
        cross += float(np.einsum("pk,pk,p->", w[owners[some]], h[matrix.indices[some]], matrix.data[some]))
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
    with np.load(path) as found:
        parts = found["data"], found["indices"], found["indptr"]
        return csr_array(parts, shape=tuple(found["shape"].tolist()))
