"""The n highest of a vector of scores: exactly the result of a stable sort, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recserver._internal.algorithms.top_n import top_candidates, top_n

# Few different values, so that ties are everywhere; -inf excludes an item.
ties = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 3.4e38, -3.4e38, 1e-45, float("-inf")])
scores_of = st.one_of(
    st.lists(ties, max_size=300),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=300),
    st.builds(lambda values, times: values * times, st.lists(ties, min_size=1, max_size=9), st.integers(1, 200)),
)


def naive(scores: list[float], n: int) -> list[int]:
    """Indices sorted by descending score, then by index."""
    remaining = [index for index, score in enumerate(scores) if score > float("-inf")]
    return sorted(remaining, key=lambda index: (-scores[index], index))[:n]


@given(scores=scores_of, n=st.integers(1, 1000))
def test_result_is_that_of_a_sort(scores: list[float], n: int) -> None:
    array = np.array(scores, np.float32)
    assert top_n(array, n).tolist() == naive(array.tolist(), n)


@pytest.mark.parametrize("n", [1, 10, 99, 1000, 5000])
def test_result_is_that_of_a_sort_for_large_catalogues(n: int) -> None:
    random = np.random.default_rng(n)
    for scores in (random.random(5000), random.integers(0, 50, 5000), np.zeros(5000), np.arange(5000.0)):
        array = scores.astype(np.float32)
        array[random.integers(0, 5000, 400)] = -np.inf
        assert top_n(array, n).tolist() == naive(array.tolist(), n)


@example(scores=[0.0, -3.4000001549684603e38], n=1, margin=1e300)
@given(scores=scores_of, n=st.integers(1, 40), margin=st.sampled_from([0.0, 0.5, 2.0, 1e30, 1e300, float("inf")]))
def test_candidates_include_all_scores_within_the_margin(scores: list[float], n: int, margin: float) -> None:
    array = np.array(scores, np.float32)
    remaining = sorted((score for score in array.tolist() if score > float("-inf")), reverse=True)
    lowest = float(np.finfo(np.float32).min)
    floor = np.float32(max(remaining[n - 1] - margin, lowest)) if len(remaining) >= n else -np.inf
    found = top_candidates(array, n, margin).tolist()
    expected = [index for index, score in enumerate(array) if score > -np.inf and score >= floor]
    assert found == sorted(found) and set(expected) <= set(found)
    assert found == expected or len(found) < 2 * n


def test_scores_are_not_modified() -> None:
    scores = np.array([3, 1, 2], np.float32)
    scores.flags.writeable = False
    assert top_n(scores, 2).tolist() == [0, 2]
