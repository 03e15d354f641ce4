"""The solver against scikit-learn's, at the same objective and from the same start."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array
from sklearn.decomposition import NMF as ScikitNMF

from recserver.algorithms.nmf import hals
from recserver.algorithms.nmf.hals import Penalty, factorize, largest_singular_value, random_start

Matrix = np.ndarray[Any, Any]


def sparse(rows: int, columns: int, density: float = 0.1, seed: int = 0) -> csr_array:
    return random_array((rows, columns), density=density, format="csr", dtype=np.float32, rng=seed)


def by_scikit_learn(
    matrix: csr_array, start: tuple[Matrix, Matrix], penalties: tuple[Penalty, Penalty], iterations: int
) -> tuple[Matrix, Matrix]:
    """The same number of its coordinate descent's sweeps, in double precision."""
    rows, columns = matrix.shape
    amounts = [one.l1 + one.l2 for one in penalties]
    model = ScikitNMF(
        n_components=start[0].shape[1],
        init="custom",
        solver="cd",
        max_iter=iterations,
        tol=0,
        alpha_W=amounts[0] / columns,
        alpha_H=amounts[1] / rows,
        l1_ratio=penalties[0].l1 / amounts[0] if amounts[0] else 0.0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = model.fit_transform(
            csr_array(matrix, dtype=np.float64), W=start[0].astype(np.float64), H=start[1].T.astype(np.float64)
        )
    return first, model.components_.T


def objective(matrix: csr_array, factors: tuple[Matrix, Matrix], penalties: tuple[Penalty, Penalty]) -> float:
    """Written out over all cells."""
    first, second = (one.astype(np.float64) for one in factors)
    total = np.square(matrix.toarray() - first @ second.T).sum() / 2
    for one, penalty in zip((first, second), penalties, strict=True):
        total += penalty.l2 / 2 * np.square(one).sum() + penalty.l1 * one.sum()
    return float(total)


PENALTIES = [
    (Penalty(), Penalty()),
    (Penalty(l2=0.5), Penalty(l2=0.5)),
    (Penalty(l2=0.3, l1=0.1), Penalty(l2=0.6, l1=0.2)),
]


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize(
    ("rows", "columns", "k"), [(70, 50, 5), (40, 90, 33), (200, 30, 30), (5000, 20, 3), (9, 7, 1)]
)
def test_each_iteration_is_scikit_learns(
    penalties: tuple[Penalty, Penalty], rows: int, columns: int, k: int
) -> None:
    matrix = sparse(rows, columns)
    start = random_start(matrix, k, seed=1)
    for iterations in (1, 7):
        fit = factorize(matrix, start, penalties, max_iter=iterations, tol=0)
        expected = by_scikit_learn(matrix, start, penalties, iterations)
        np.testing.assert_allclose(fit.rows, expected[0], atol=2e-4)
        np.testing.assert_allclose(fit.columns, expected[1], atol=2e-4)
        assert fit.iterations == iterations


@pytest.mark.parametrize("penalties", PENALTIES)
def test_the_loss_is_the_objective_and_never_rises(penalties: tuple[Penalty, Penalty]) -> None:
    matrix, told = sparse(300, 200, seed=3), list[tuple[int, int, float]]()
    fit = factorize(
        matrix,
        random_start(matrix, 40, 0),
        penalties,
        max_iter=12,
        tol=0,
        on_iteration=lambda *one: told.append(one),
    )
    assert fit.loss == pytest.approx(objective(matrix, (fit.rows, fit.columns), penalties), rel=1e-4)
    residual = np.linalg.norm(matrix.toarray() - fit.rows @ fit.columns.T)
    assert fit.error == pytest.approx(float(residual), rel=1e-3)
    assert [one[:2] for one in told] == [(iteration, 12) for iteration in range(1, 13)]
    losses = np.array([loss for *_, loss in told])
    assert (np.diff(losses) <= 1e-4 * losses[0]).all()
    assert told[-1][2] == fit.loss
    assert min(fit.rows.min(), fit.columns.min()) >= 0


@pytest.mark.parametrize(("size", "chunk"), [(16, 1), (64, 8), (4096, 100)])
def test_blocks_chunks_and_threads_change_nothing_but_rounding(
    monkeypatch: pytest.MonkeyPatch, size: int, chunk: int
) -> None:
    matrix = sparse(500, 300, seed=5)
    start, penalties = random_start(matrix, 20, 0), PENALTIES[1]
    expected = factorize(matrix, start, penalties, max_iter=5, tol=0)
    monkeypatch.setattr(hals, "CHUNK_SIZE", chunk)
    monkeypatch.setattr(hals, "MIN_BLOCK_ROWS", size)
    monkeypatch.setattr(hals, "MAX_BLOCK_ROWS", size)
    monkeypatch.setattr(hals, "GRAM_ROWS", size)
    found = [factorize(matrix, start, penalties, max_iter=5, tol=0, threads=threads) for threads in (1, 2, 5)]
    for one in found:
        np.testing.assert_allclose(one.rows, expected.rows, atol=1e-4)
        assert np.array_equal(one.rows, found[0].rows), "the number of threads matters"
        assert np.array_equal(one.columns, found[0].columns), "the number of threads matters"
        assert one.loss == found[0].loss


def test_it_stops_when_little_is_gained_and_not_at_a_tolerance_of_zero() -> None:
    matrix = sparse(100, 80)
    start, penalties = random_start(matrix, 4, 0), PENALTIES[0]
    losses: list[float] = []
    loose = factorize(
        matrix, start, penalties, max_iter=500, tol=1e-3, on_iteration=lambda *one: losses.append(one[2])
    )
    assert 2 < loose.iterations < 100
    gained = -np.diff(losses) / (np.square(matrix.data).sum() / 2)
    assert gained[-1] < 1e-3 <= gained[:-1].min()
    assert factorize(matrix, start, penalties, max_iter=150, tol=0).iterations == 150


def test_what_told_raises_ends_the_fit() -> None:
    def stop(iteration: int, iterations: int, loss: float) -> None:
        if iteration == 3:
            raise InterruptedError

    matrix = sparse(50, 40)
    with pytest.raises(InterruptedError):
        factorize(matrix, random_start(matrix, 4, 0), PENALTIES[0], max_iter=10, tol=0, on_iteration=stop)


def test_neither_the_start_nor_the_matrix_is_changed() -> None:
    matrix = sparse(50, 40)
    start, before = random_start(matrix, 4, 0), matrix.copy()
    copies = [one.copy() for one in start]
    factorize(matrix, start, PENALTIES[0], max_iter=3, tol=0)
    assert all(np.array_equal(*pair) for pair in zip(start, copies, strict=True))
    assert (matrix != before).nnz == 0


@pytest.mark.parametrize("penalties", PENALTIES)
def test_empty_rows_columns_and_components_stay_finite(penalties: tuple[Penalty, Penalty]) -> None:
    dense = sparse(30, 20).toarray()
    dense[3], dense[:, 4] = 0, 0
    matrix = csr_array(dense)
    rows, columns = random_start(matrix, 6, 0)
    rows[:, 2], columns[:, 2] = 0, 0
    fit = factorize(matrix, (rows, columns), penalties, max_iter=20, tol=0)
    assert np.isfinite(fit.rows).all() and np.isfinite(fit.columns).all()
    assert not fit.rows[:, 2].any() and not fit.columns[:, 2].any()
    if penalties[0].l2:
        assert not fit.rows[3].any() and not fit.columns[4].any()


@pytest.mark.parametrize("factor", [1e-16, 1e-8, 1e8])
def test_the_scale_of_the_data_does_not_matter(factor: float) -> None:
    matrix = sparse(60, 40)
    fits = []
    for one in (matrix, matrix * np.float32(factor)):
        fits.append(factorize(one, random_start(one, 5, 0), PENALTIES[0], max_iter=10, tol=0))
    assert fits[1].error / factor == pytest.approx(fits[0].error, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_largest_singular_value_is_that_of_the_decomposition(seed: int) -> None:
    matrix = sparse(60, 40, density=0.2, seed=seed)
    expected = np.linalg.svd(matrix.toarray(), compute_uv=False)[0]
    assert largest_singular_value(matrix, steps=40) == pytest.approx(float(expected), rel=1e-3)
    assert largest_singular_value(matrix) == pytest.approx(float(expected), rel=2e-2)
    assert largest_singular_value(matrix * np.float32(1e15)) == pytest.approx(float(expected) * 1e15, rel=2e-2)
    assert largest_singular_value(csr_array((5, 4), dtype=np.float32)) == 0.0
