"""Fold-in: the factors of somebody new are those that the training's own objective would have given them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import nnls

from recserver._internal.algorithms.fold_in import FoldIn, Weighting, _solve_nonnegative
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.core.errors import UnreadableModel
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import recommend
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import MAX_RATING, Interaction
from recserver._internal.results.recommendations import Source
from tests.helpers.answering_models import own_of, trained
from tests.helpers.planted_tastes import tastes
from tests.helpers.small_model import ITEMS, packed

pytestmark = pytest.mark.slow

Array = NDArray[Any]

# --- the bounded system ---


def problem(k: int, kind: str, seed: int) -> tuple[Array, Array]:
    """Rows H and a right side: the problem is ``min |H w - x|`` over w >= 0."""
    random = np.random.default_rng([k, seed, len(kind)])
    rows = {"few rows": max(1, k // 3), "wide": k + 5}.get(kind, 3 * k + 5)
    matrix = np.abs(random.standard_normal((rows, k)))
    if kind == "sparse":
        matrix *= random.random(matrix.shape) < 0.1
    if kind == "signs":
        matrix *= random.choice([-1.0, 1.0], matrix.shape)
    if kind == "empty columns":
        matrix[:, ::2] = 0
    return matrix, random.standard_normal(rows) if kind == "signs" else random.random(rows)


def optimality(system: Array, target: Array, found: Array) -> float:
    """How far from optimal: the worst slope below zero, and the worst slope where found is positive."""
    slope = system @ found - target
    scale = max(float(np.abs(target).max(initial=0)), 1e-300)
    return float(max(np.max(-slope, initial=0), np.abs(slope[found > 0]).max(initial=0))) / scale


@pytest.mark.parametrize("kind", ["plain", "sparse", "signs", "wide", "few rows", "empty columns"])
@pytest.mark.parametrize("k", [1, 2, 3, 8, 33, 128, 200])
def test_the_bounded_system_is_solved_as_scipy_does(k: int, kind: str) -> None:
    for seed in range(4):
        rows, right = problem(k, kind, seed)
        ridge = 1e-7 * float(np.square(rows).sum()) / k
        system, target = rows.T @ rows + (ridge or 1.0) * np.eye(k), rows.T @ right
        found = _solve_nonnegative(system, target)
        assert (found >= 0).all()
        assert optimality(system, target, found) < 1e-8, (k, kind, seed)
        extended = np.vstack([rows, math.sqrt(ridge or 1.0) * np.eye(k)])
        expected = nnls(extended, np.append(right, np.zeros(k)))[0]

        def cost(factors: Array, system: Array = system, target: Array = target) -> float:
            return float(factors @ system @ factors / 2 - target @ factors)

        assert cost(found) <= cost(expected) + 1e-9 * abs(cost(expected))
        if kind in ("plain", "sparse", "signs"):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * expected.max())


@pytest.mark.parametrize("k", [1, 5, 60])
def test_targets_of_zero_and_below_give_nothing(k: int) -> None:
    rows, _ = problem(k, "plain", 0)
    system = rows.T @ rows
    for target in (np.zeros(k), -np.ones(k), -np.random.default_rng(k).random(k)):
        assert not _solve_nonnegative(system, target).any()
    assert _solve_nonnegative(np.zeros((0, 0)), np.zeros(0)).shape == (0,)


def test_hard_systems_take_a_bounded_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows far fewer than components, all positive, leave next to nothing to tell the components apart."""
    from recserver._internal.algorithms import fold_in as module

    solved, steps = module._solve, list[int]()

    def counted(system: Array, target: Array) -> Array:
        steps.append(len(target))
        return solved(system, target)

    monkeypatch.setattr(module, "_solve", counted)
    for k in (32, 128, 200):
        rows, _ = problem(k, "few rows", 7)
        system = rows.T @ rows + 1e-7 * float(np.square(rows).sum()) / k * np.eye(k)
        for toll in (0.0, 0.5):
            target = rows[np.random.default_rng(k).integers(0, len(rows), 20)].sum(axis=0) - toll
            steps.clear()
            assert optimality(system, target, _solve_nonnegative(system, target)) < 1e-8
            assert len(steps) < 3 * k + 50


# --- what ratings are worth, and how much they speak ---


@pytest.mark.parametrize("exponent", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_worth_follows_from_strengths(exponent: float, dtype: Any) -> None:
    random = np.random.default_rng(5)
    fold_in = FoldIn(np.ones(3, np.float32), np.eye(2, dtype=np.float32), Weighting(), exponent=exponent)
    for scale in (1e-6, 1.0, 1e6):
        worth = (random.random(9) * scale).astype(dtype)
        strengths = fold_in.confidences(worth)
        expected = np.array([one / math.fsum(worth.tolist()) ** exponent for one in worth.tolist()])
        np.testing.assert_allclose(strengths, expected, rtol=1e-5)
        np.testing.assert_allclose(fold_in.weights_of(strengths), worth, rtol=1e-5)
    for nothing in (np.zeros(3, dtype), np.zeros(0, dtype)):
        assert fold_in.weights_of(fold_in.confidences(nothing)).tolist() == nothing.tolist()


def test_ratings_are_worth_what_the_rule_says() -> None:
    ratings = np.array([-3.0, 0.0, 0.5, 1.0, 1e9])
    assert Weighting("ratings").weights(ratings).tolist() == [0, 0, 0.5, 1, 1e9]
    assert Weighting("implicit").weights(ratings).tolist() == [0, 0, 1, 1, 1]
    expected = [0, 0, *(math.log(1 + one) / 1.5 for one in (0.5, 1, 1e9))]
    np.testing.assert_allclose(Weighting("weighted", 1.5).weights(ratings), expected)


# --- fits of planted data ---

DATA = tastes(users=120, items=48, groups=4, seed=3)
NMF: dict[str, Any] = {"n_components": 6, "max_iter": 30, "regularization": 0.09, "neighbors": 10, "blend": 0.6}
FITS: dict[str, tuple[str, dict[str, Any]]] = {
    "nmf": ("nmf", NMF),
    "nmf without neighbors": ("nmf", {**NMF, "neighbors": 0, "blend": None}),
    "nmf weighted": ("nmf", {**NMF, "feedback": "weighted"}),
    "nmf by scikit-learn": (
        "nmf",
        {"n_components": 5, "solver": "cd", "weighting": "none", "neighbors": 0, "alpha": 0.01, "l1_ratio": 0.5},
    ),
    "svd": ("svd", {"n_components": 6}),
    "svd weighted": ("svd", {"n_components": 6, "feedback": "weighted"}),
    "svd of ratings": ("svd", {"n_components": 6, "weighting": "none"}),
    "als": ("als", {"n_components": 6, "regularization": 3.0}),
    "als weighted": ("als", {"n_components": 6, "regularization": 3.0, "feedback": "weighted"}),
    "ease": ("ease", {"regularization": 20.0, "neighbors": 20}),
    "item_knn weighted": ("item_knn", {"feedback": "weighted"}),
}


def dense(interactions: Interactions, feedback: str) -> Array:
    """What each pair is worth, shape (users, items), from the ratings."""
    found = np.zeros((len(interactions.users), len(interactions.items)))
    rows = np.repeat(np.arange(len(found)), np.diff(interactions.indptr))
    positive = np.maximum(interactions.ratings.astype(np.float64), 0)
    if feedback == "implicit":
        positive = (positive > 0) * 1.0
    elif feedback == "weighted":
        positive = np.log1p(positive) / np.log1p(positive[positive > 0]).mean()
    found[rows, interactions.indices] = positive
    return found


def evened(worth: Array, exponent: float) -> tuple[Array, Array]:
    """``D_u^-e B D_i^-e``, and ``D_i``'s part of it."""
    users, items = (np.where(sums > 0, sums, 1) ** -exponent for sums in (worth.sum(axis=1), worth.sum(axis=0)))
    return users[:, None] * worth * items, items


def rule_of(given: dict[str, Any]) -> tuple[str, float]:
    """Feedback and exponent that hyperparameters come to."""
    if given.get("weighting") == "none":
        return "ratings", 0.0
    return given.get("feedback", "implicit"), 0.3


def folded(model: Recommender, sent: dict[str, float]) -> Any:
    person = model.user_profile(None, {model.items.find(item) or 0: rating for item, rating in sent.items()})
    assert person is not None
    return person


@pytest.mark.parametrize("name", [name for name in FITS if name.startswith("nmf")])
def test_nmf_factors_of_somebody_new_are_optimal_for_the_objective(tmp_path: Path, name: str) -> None:
    given = FITS[name][1]
    fit, model = trained(tmp_path / "m", "nmf", DATA, given)
    feedback, exponent = rule_of(given)
    worth = dense(DATA, feedback)
    factored, item_part = evened(worth, exponent)
    share = 1 - (given.get("blend") or 0.0)
    fitted = fit.items / (share / item_part)[:, None]
    largest = np.linalg.svd(factored, compute_uv=False)[0]
    ridge = given.get("alpha", 0.0) * len(DATA.items)
    l1 = ridge * given.get("l1_ratio", 0.0)
    l2 = ridge - l1 + given.get("regularization", 0.0) * largest
    for user in range(0, 120, 9):
        person = folded(model, own_of(DATA, user))
        system = fitted.T @ fitted + l2 * np.eye(fitted.shape[1])
        target = factored[user] @ fitted - l1
        found = person.factors.astype(np.float64)
        assert person.source == Source.FOLD_IN and (found >= 0).all()
        assert found.any()
        assert optimality(system, target, found) < 2e-5, user


@pytest.mark.parametrize("name", [name for name in FITS if name.startswith("svd")])
def test_svd_factors_of_somebody_new_are_the_projection(tmp_path: Path, name: str) -> None:
    fit, model = trained(tmp_path / "m", "svd", DATA, FITS[name][1])
    feedback, exponent = rule_of(FITS[name][1])
    factored, item_part = evened(dense(DATA, feedback), exponent)
    components = fit.items * item_part[:, None]
    np.testing.assert_allclose(components.T @ components, np.eye(6), atol=1e-5)
    for user in range(0, 120, 9):
        expected = factored[user] @ components
        found = folded(model, own_of(DATA, user)).factors
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        np.testing.assert_allclose(found, fit.users[user], rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", [name for name in FITS if name.startswith("als")])
def test_als_factors_of_somebody_new_solve_the_normal_equations(tmp_path: Path, name: str) -> None:
    given = FITS[name][1]
    fit, model = trained(tmp_path / "m", "als", DATA, given)
    worth, items = dense(DATA, given.get("feedback", "implicit")), fit.items.astype(np.float64)
    for user in range(0, 120, 9):
        confidence = 1 + 10.0 * worth[user]
        system = (items * confidence[:, None]).T @ items + 3.0 * np.eye(6)
        expected = np.linalg.solve(system, items.T @ (confidence * (worth[user] > 0)))
        found = folded(model, own_of(DATA, user)).factors
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", FITS)
def test_a_user_of_the_training_gets_nearly_the_same_when_folded_in(tmp_path: Path, name: str) -> None:
    _, model = trained(tmp_path / "m", *(FITS[name][0], DATA, FITS[name][1]))
    common = 0
    for user in range(0, 120, 5):
        by_id = recommend(model, DATA.users[user], Query(n=10))
        sent = [Interaction(item, rating) for item, rating in own_of(DATA, user).items()]
        anew = recommend(model, None, Query(n=10, interactions=sent))
        assert (by_id.source, anew.source) == (Source.PERSONAL, Source.FOLD_IN)
        common += len({item for item, _ in by_id.items} & {item for item, _ in anew.items})
    assert common >= 0.8 * 240


@pytest.mark.parametrize("name", FITS)
def test_what_is_sent_again_changes_a_known_user_little(tmp_path: Path, name: str) -> None:
    """The worth of what a training knew is found again from the strengths in the file."""
    _, model = trained(tmp_path / "m", *(FITS[name][0], DATA, FITS[name][1]))
    for user in range(0, 120, 9):
        sent = own_of(DATA, user)
        first, rating = next(iter(sent.items()))
        whole = folded(model, sent)
        place = model.items.find(first)
        assert place is not None
        mixed = model.user_profile(DATA.users[user], {place: rating})
        assert mixed is not None and mixed.weights is not None
        assert mixed.items.tolist() == whole.items.tolist()
        np.testing.assert_allclose(mixed.weights, whole.weights, rtol=1e-4)
        np.testing.assert_allclose(
            mixed.factors, whole.factors, rtol=1e-3, atol=1e-4 * np.abs(whole.factors).max(initial=0)
        )
        np.testing.assert_allclose(mixed.confidences, whole.confidences, rtol=1e-4)


@pytest.mark.parametrize("name", FITS)
def test_hostile_ratings_give_finite_answers(tmp_path: Path, name: str) -> None:
    _, model = trained(tmp_path / "m", *(FITS[name][0], DATA, FITS[name][1]))
    ratings = [MAX_RATING, -MAX_RATING, 0.0, -0.0, 5e-324, 1e-300, 1e-40, 1.0]
    told = [Interaction(f"i{place:03}", rating) for place, rating in enumerate(ratings)]
    for user in (None, "u000"):
        for sent in (told, *([one] for one in told), [told[0], told[4]]):
            answer = recommend(model, user, Query(interactions=sent, explain=True, exclude_seen=False))
            assert len(answer.items) == 10
            assert all(math.isfinite(score) for _, score in answer.items)
            shares = [share for one in answer.explanations or [] for _, share in one.shares]
            assert all(math.isfinite(share) for share in shares)


# --- model files ---


@pytest.mark.parametrize("name", FITS)
def test_a_model_file_tells_how_to_fold_in(tmp_path: Path, name: str) -> None:
    fit, model = trained(tmp_path / "m", *(FITS[name][0], DATA, FITS[name][1]))
    assert fit.fold_in is not None and model.fold_in is not None
    assert model.fold_in.header() == fit.fold_in.header()
    assert model.fold_in.gram.tolist() == fit.fold_in.gram.tolist()
    assert model.fold_in.input_scale.tolist() == fit.fold_in.input_scale.tolist()


HEADER = FoldIn(np.ones(5, np.float32), np.eye(2, dtype=np.float32), Weighting(), exponent=0.3).header()
FOLD_IN = {
    "fold_in_inputs": np.array([1, 1, 2, 1, 1], np.float32),
    "fold_in_gram": np.array([[40, 15], [15, 7]], np.float32),
}


def file_of(path: Path, header: Any = HEADER, **changes: Any) -> Path:
    return packed(path, {"model_version": 3, "fold_in": header}, **(FOLD_IN | changes))


WRONG_HEADERS: dict[str, Any] = {
    "none": None,
    "a list": [],
    "text": "implicit",
    "empty": {},
    **{f"no {name}": {key: value for key, value in HEADER.items() if key != name} for name in HEADER},
    **{
        f"{name} {value!r:.12}": {**HEADER, name: value}
        for name in ("mean_log", "exponent", "l2", "l1", "confidence")
        for value in (-1, -1e-300, True, "1", None, [1], 10**400)
    },
    "a mean of nothing": {**HEADER, "mean_log": 0},
    "an exponent of one": {**HEADER, "exponent": 1},
    "an exponent of nearly one": {**HEADER, "exponent": 1 - 1e-9},
    "unknown feedback": {**HEADER, "feedback": "stars"},
    "feedback that is a list": {**HEADER, "feedback": ["implicit"]},
    "a switch that is a number": {**HEADER, "nonnegative": 1},
}


@pytest.mark.parametrize("header", WRONG_HEADERS.values(), ids=WRONG_HEADERS)
def test_headers_that_make_no_sense_are_refused(tmp_path: Path, header: Any) -> None:
    with pytest.raises(UnreadableModel, match=r"train the model again\.$"):
        load_model(file_of(tmp_path / "m.pkl", header))


WRONG_ARRAYS: dict[str, dict[str, Any]] = {
    "no inputs": {"fold_in_inputs": None},
    "no gram": {"fold_in_gram": None},
    "too few inputs": {"fold_in_inputs": np.ones(4, np.float32)},
    "inputs in double precision": {"fold_in_inputs": np.ones(5)},
    "inputs as a matrix": {"fold_in_inputs": np.ones((5, 1), np.float32)},
    "a larger gram": {"fold_in_gram": np.eye(3, dtype=np.float32)},
    "a smaller gram": {"fold_in_gram": np.eye(1, dtype=np.float32)},
    "an oblong gram": {"fold_in_gram": np.ones((2, 3), np.float32)},
    "a flat gram": {"fold_in_gram": np.ones(4, np.float32)},
    "a gram of whole numbers": {"fold_in_gram": np.eye(2, dtype=np.int64)},
}


@pytest.mark.parametrize("changes", WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableModel, match=r"train the model again\.$"):
        load_model(file_of(tmp_path / "m.pkl", **changes))


ODD: dict[str, dict[str, Any]] = {
    "a gram of zeros": {"fold_in_gram": np.zeros((2, 2), np.float32)},
    "a gram below zero": {"fold_in_gram": np.array([[-1, 0], [0, -1]], np.float32)},
    "a gram that is not symmetric": {"fold_in_gram": np.array([[1, 5], [-5, 1]], np.float32)},
    "a gram that turns signs": {"fold_in_gram": np.array([[0, 1], [1, 0]], np.float32)},
    "a singular gram": {"fold_in_gram": np.ones((2, 2), np.float32)},
    "an enormous gram": {"fold_in_gram": np.full((2, 2), 3e38, np.float32)},
    "a tiny gram": {"fold_in_gram": np.full((2, 2), 1e-40, np.float32)},
    "enormous inputs": {"fold_in_inputs": np.full(5, 3e38, np.float32)},
    "inputs below zero": {"fold_in_inputs": np.full(5, -3e38, np.float32)},
    "enormous factors": {
        "item_factors": np.full((2, 5), 1e37, np.float32),
        "user_factors": np.zeros((3, 2), np.float32),
    },
    "strengths below zero": {"seen_strengths": np.array([1, -3, 1, 1, 1, 1, -9], np.float32)},
    "enormous strengths": {"seen_strengths": np.full(7, 3e38, np.float32)},
    "strengths of zero": {"seen_strengths": np.zeros(7, np.float32)},
    "tiny strengths": {"seen_strengths": np.full(7, 1e-45, np.float32)},
}
ODD_HEADERS: dict[str, dict[str, Any]] = {
    "as ever": {},
    "not below zero": {"nonnegative": True},
    "with confidence": {"confidence": 1e300},
    "with penalties": {"l1": 1e308, "l2": 1e308, "nonnegative": True},
    "of tiny logarithms": {"feedback": "weighted", "mean_log": 1e-308},
    "of ratings": {"feedback": "ratings", "exponent": 0.5},
}
NEIGHBORS = {
    "neighbor_indptr": np.array([0, 2, 2, 2, 3, 3], np.int64),
    "neighbor_indices": np.array([1, 4, 1], np.int32),
    "neighbor_weights": np.array([1e38, -1e38, 1e38], np.float32),
    "seen_strengths": np.full(7, 1e-3, np.float32),
}


@pytest.mark.parametrize("header", ODD_HEADERS.values(), ids=ODD_HEADERS)
@pytest.mark.parametrize("changes", [*ODD.values(), NEIGHBORS], ids=[*ODD, "enormous neighbors"])
def test_odd_numbers_in_a_file_never_fail_a_request(
    tmp_path: Path, header: dict[str, Any], changes: dict[str, Any]
) -> None:
    try:
        _, model = load_model(file_of(tmp_path / "m.pkl", {**HEADER, **header}, **changes))
    except UnreadableModel:
        return
    for user in (None, "u0", "u1", "u2"):
        for rating in (1.0, MAX_RATING, 1e-300):
            sent = [Interaction("i0", rating), Interaction("i2", 2 * rating / 3)]
            for one in (sent, sent[:1], []):
                answer = recommend(model, user, Query(interactions=one, explain=True, exclude_seen=False))
                assert len(answer.items) == 5
                assert all(math.isfinite(score) for _, score in answer.items)
                numbers = [one.others for one in answer.explanations or []]
                numbers += [share for one in answer.explanations or [] for _, share in one.shares]
                assert all(math.isfinite(number) for number in numbers)


def test_model_files_of_earlier_releases_answer(tmp_path: Path) -> None:
    _, model = load_model(packed(tmp_path / "m.pkl"))
    assert model.fold_in is None
    sent = [Interaction("i1", 5)]
    known = recommend(model, "u0", Query(interactions=sent, explain=True))
    assert (known.source, [item for item, _ in known.items]) == (Source.PERSONAL, ["i0", "i10", "i2", "é"])
    assert [one.shares for one in known.explanations or []] == [[]] * 4
    unknown = recommend(model, "nobody", Query(interactions=sent))
    assert unknown.source == Source.POPULAR
    assert {item for item, _ in unknown.items} == set(ITEMS) - {"i1"}
