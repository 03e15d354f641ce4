"""Ids a page at a time, and what happened of late: against sorted lists and direct sums."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserver._internal.algorithms.interactions import RECENT_HALF_LIFE_DAYS
from recserver._internal.storage.model_file.id_table import IdIndex, pack_ids
from tests.helpers.planted_tastes import some

IDS = sorted(
    {
        "a",
        "aa",
        "aab",
        "ab",
        "a\x00",
        "a\x00b",
        "b",
        "é",
        "éa",
        "e\u0301",
        "日",
        "日本",
        "😀",
        "😀a",
        "\uffff",
        "z" * 300,
    },
    key=str.encode,
)
letters = st.text(st.sampled_from("ab\x00é日😀\uffff"), max_size=4)


def naive(ids: list[str], n: int, prefix: str, after: str) -> list[str]:
    return [one for one in ids if one.startswith(prefix) and (not after or one.encode() > after.encode())][:n]


def page(ids: list[str], n: int, prefix: str = "", after: str = "") -> list[str]:
    table = IdIndex(*pack_ids(ids))
    return [table[place] for place in table.page(n, prefix, after)]


@given(ids=st.sets(letters, max_size=40), n=st.integers(0, 50), prefix=letters, after=letters)
def test_a_page_is_what_a_sorted_list_gives(ids: set[str], n: int, prefix: str, after: str) -> None:
    ordered = sorted(ids, key=str.encode)
    assert page(ordered, n, prefix, after) == naive(ordered, n, prefix, after)


@pytest.mark.parametrize(
    "prefix", ["", "a", "aab", "aabc", "é", "e", "日", "日本語", "😀", "z" * 300, "z" * 301, "\U0010ffff"]
)
def test_pages_go_on_after_the_last_id_of_the_one_before(prefix: str) -> None:
    expected = [one for one in IDS if one.startswith(prefix)]
    for size in (1, 2, 5, 100):
        found: list[str] = []
        while more := page(IDS, size, prefix, found[-1] if found else ""):
            assert len(more) <= size
            found += more
        assert found == expected


def test_after_need_not_be_there_nor_have_the_prefix() -> None:
    assert page(IDS, 100, "", "aaa") == naive(IDS, 100, "", "aaa")
    assert page(IDS, 100, "a", "b") == []
    assert page(IDS, 100, "b", "a") == ["b"]
    assert page(IDS, 100, "", IDS[-1]) == []
    assert page([], 5, "a", "a") == []
    assert page(["", "a"], 5) == ["", "a"]
    assert page(["", "a"], 0) == []


NOW = 1.8e9


def test_recent_shares_are_sums_of_halves() -> None:
    random = np.random.default_rng(4)
    interactions = some(users=30, items=20, seed=4)
    for span in (1.0, 86_400 * 45, 86_400 * 365 * 40):
        times = 1.7e9 - random.random(interactions.n_pairs) * span
        shares = replace(interactions, times=times).recent_popularity(NOW)
        assert shares is not None
        assert shares.dtype == np.float32 and shares.shape == (20,)
        latest = max(times.tolist())
        sums = [0.0] * 20
        for item, time in zip(interactions.indices.tolist(), times.tolist(), strict=True):
            sums[item] += math.pow(2, -(latest - time) / (RECENT_HALF_LIFE_DAYS * 24 * 3600))
        expected = [one / math.fsum(sums) for one in sums]
        np.testing.assert_allclose(shares, expected, rtol=1e-5, atol=1e-30)
        assert shares.sum() == pytest.approx(1, rel=1e-5)


def test_an_interaction_counts_half_of_one_a_month_later() -> None:
    interactions = some(users=2, items=2, seed=0)
    times = np.zeros(interactions.n_pairs)
    times[interactions.indices == 1] = RECENT_HALF_LIFE_DAYS * 86_400
    counts = interactions.item_counts()
    shares = replace(interactions, times=times).recent_popularity(NOW)
    assert shares is not None
    assert shares[0] / shares[1] == pytest.approx(counts[0] / counts[1] / 2)


def test_without_times_nothing_is_known_of_late() -> None:
    interactions = some()
    assert interactions.recent_popularity(NOW) is None
    nobody = replace(
        interactions, times=np.zeros(0), indices=np.zeros(0, np.int32), ratings=np.zeros(0, np.float32)
    )
    assert nobody.recent_popularity(NOW) is None


def test_one_time_in_the_future_is_a_mistake_and_ages_nothing() -> None:
    interactions = some(users=2, items=2, seed=0)
    times = np.full(interactions.n_pairs, NOW)
    expected = replace(interactions, times=times).recent_popularity(NOW)
    times[0] = NOW + 75 * 365 * 86_400
    assert expected is not None
    np.testing.assert_allclose(replace(interactions, times=times).recent_popularity(NOW), expected)
    all_of_them = replace(interactions, times=times + 1e10).recent_popularity(NOW)
    np.testing.assert_allclose(all_of_them, expected)
