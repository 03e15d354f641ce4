"""The solver compared with that of scikit-learn, with the same objective and initial factors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array
from sklearn.decomposition import NMF as ScikitNMF

from recserver._internal.algorithms.nmf import hals
from recserver._internal.algorithms.nmf.hals import Penalty, factorize, largest_singular_value, random_start

pytestmark = pytest.mark.slow

Matrix = np.ndarray[Any, Any]


def sparse(rows: int, columns: int, density: float = 0.1, seed: int = 0) -> csr_array:
    return random_array((rows, columns), density=density, format="csr", dtype=np.float32, rng=seed)


def fit_with_sklearn(
    matrix: csr_array, start: tuple[Matrix, Matrix], penalties: tuple[Penalty, Penalty], iterations: int
) -> tuple[Matrix, Matrix]:
    """The factors after the same number of iterations of scikit-learn, in double precision."""
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
    """The objective, computed over all cells."""
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
def test_iterations_equal_those_of_scikit_learn(
    penalties: tuple[Penalty, Penalty], rows: int, columns: int, k: int
) -> None:
    matrix = sparse(rows, columns)
    start = random_start(matrix, k, seed=1)
    for iterations in (1, 7):
        fit = factorize(matrix, start, penalties, max_iter=iterations, tol=0)
        expected = fit_with_sklearn(matrix, start, penalties, iterations)
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
        assert np.array_equal(one.rows, found[0].rows), "the result depends on the number of threads"
        assert np.array_equal(one.columns, found[0].columns), "the result depends on the number of threads"
        assert one.loss == found[0].loss


def test_it_stops_at_the_tolerance_and_never_at_zero() -> None:
    matrix = sparse(100, 80)
    start, penalties = random_start(matrix, 4, 0), PENALTIES[0]
    losses: list[float] = []
    loose = factorize(
        matrix, start, penalties, max_iter=500, tol=1e-3, on_iteration=lambda *one: losses.append(one[2])
    )
    assert 2 < loose.iterations < 100
    gains = -np.diff(losses) / (np.square(matrix.data).sum() / 2)
    assert gains[-1] < 1e-3 <= gains[:-1].min()
    assert factorize(matrix, start, penalties, max_iter=150, tol=0).iterations == 150


def test_an_exception_of_on_iteration_ends_the_fit() -> None:
    def stop(iteration: int, iterations: int, loss: float) -> None:
        if iteration == 3:
            raise InterruptedError

    matrix = sparse(50, 40)
    with pytest.raises(InterruptedError):
        factorize(matrix, random_start(matrix, 4, 0), PENALTIES[0], max_iter=10, tol=0, on_iteration=stop)


def test_inputs_are_not_modified() -> None:
    matrix = sparse(50, 40)
    start, before = random_start(matrix, 4, 0), matrix.copy()
    copies = [one.copy() for one in start]
    factorize(matrix, start, PENALTIES[0], max_iter=3, tol=0)
    assert all(np.array_equal(*pair) for pair in zip(start, copies, strict=True))
    assert (matrix != before).nnz == 0


@pytest.mark.parametrize("penalties", PENALTIES)
def test_empty_rows_columns_and_components_are_finite(penalties: tuple[Penalty, Penalty]) -> None:
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
def test_fits_do_not_depend_on_the_scale_of_the_data(factor: float) -> None:
    matrix = sparse(60, 40)
    fits = []
    for one in (matrix, matrix * np.float32(factor)):
        fits.append(factorize(one, random_start(one, 5, 0), PENALTIES[0], max_iter=10, tol=0))
    assert fits[1].error / factor == pytest.approx(fits[0].error, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_largest_singular_value_equals_that_of_the_svd(seed: int) -> None:
    matrix = sparse(60, 40, density=0.2, seed=seed)
    expected = np.linalg.svd(matrix.toarray(), compute_uv=False)[0]
    assert largest_singular_value(matrix, steps=40) == pytest.approx(float(expected), rel=1e-3)
    assert largest_singular_value(matrix) == pytest.approx(float(expected), rel=2e-2)
    assert largest_singular_value(matrix * np.float32(1e15)) == pytest.approx(float(expected) * 1e15, rel=2e-2)
    assert largest_singular_value(csr_array((5, 4), dtype=np.float32)) == 0.0
