"""From rows to interactions: which values are ids, what a rating is worth, and what is said of the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recserver.chefs import Batch
from recserver.errors import SourceFailed
from recserver.interactions import Interactions
from recserver.worker.rows import InteractionsBuilder, Vocabulary, ratings_of

MISSING, EMPTY, OVERLONG = "is missing", "is empty", "is longer than 256 characters"
FOREIGN, NOT_UNICODE = "is neither text nor a number", "is not valid Unicode"

IDS = [
    ("u1", "u1"), (" u1 ", " u1 "), ("é日本😀", "é日本😀"), ("x" * 256, "x" * 256), ("\n", "\n"), ("nan", "nan"),
    ("7.0", "7.0"), ("007", "007"), (7, "7"), (7.0, "7"), (-7.0, "-7"), (7.5, "7.5"), (1e22, "1" + "0" * 22),
    (0, "0"), (-0.0, "0"), (2**70, str(2**70)), (np.int64(7), "7"), (np.float32(7), "7"), (np.str_("a"), "a"),
    (Decimal("7.00"), "7"), (Decimal("7.50"), "7.50"), (Decimal("1E+2"), "100"),
    (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
]  # fmt: skip
NO_IDS = [
    (None, MISSING), (math.nan, MISSING), (pd.NA, MISSING), (pd.NaT, MISSING), (np.float64("nan"), MISSING),
    ("", EMPTY), ("x" * 257, OVERLONG), (10**300, OVERLONG), (10**5000, OVERLONG),
    (Decimal("1E+999999"), OVERLONG), (True, FOREIGN), (False, FOREIGN), (np.bool_(True), FOREIGN),
    (b"u1", FOREIGN), (["u1"], FOREIGN), ({"id": 1}, FOREIGN), (("u", 1), FOREIGN), (math.inf, FOREIGN),
    (-math.inf, FOREIGN), (1j, FOREIGN), (date(2026, 1, 2), FOREIGN), (Decimal("Infinity"), FOREIGN),
    (object(), FOREIGN), ("\ud800", NOT_UNICODE), ("a\udfffb", NOT_UNICODE),
]  # fmt: skip


def column(*values: object) -> NDArray[Any]:
    """``values`` as chefs hand them over, nested ones included."""
    return np.fromiter(values, object, count=len(values))


def built(renames: Mapping[str, str] = {}, **columns: list[Any]) -> tuple[Interactions, dict[str, int]]:
    """What comes of one batch."""
    builder = InteractionsBuilder(renames)
    builder.add(Batch(tuple(columns), {name: column(*one) for name, one in columns.items()}))
    return builder.build(), dict(builder.rejected)


def pairs(interactions: Interactions) -> dict[tuple[str, str], float]:
    """User and item → rating."""
    rows = np.repeat(interactions.users, np.diff(interactions.indptr))
    items = [interactions.items[place] for place in interactions.indices]
    return dict(zip(zip(rows.tolist(), items, strict=True), interactions.ratings.tolist(), strict=True))


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("value", "text"), IDS, ids=range(len(IDS)))
def test_text_and_numbers_are_ids(value: object, text: str, alone: bool) -> None:
    extra = [] if alone else ["other", 3]
    interactions, rejected = built(user_id=[value, *extra], item_id=["i", *extra])
    assert text in interactions.users
    assert not rejected


@pytest.mark.parametrize("place", ["user_id", "item_id"])
@pytest.mark.parametrize(("value", "reason"), NO_IDS, ids=range(len(NO_IDS)))
def test_what_is_no_id_rejects_the_row_and_is_counted(value: object, reason: str, place: str) -> None:
    columns: dict[str, list[Any]] = {"user_id": ["u", "v", "w"], "item_id": ["i", "j", "k"]}
    columns[place] = ["good", value, value]
    interactions, rejected = built(**columns)
    assert len(pairs(interactions)) == interactions.rows_used == 1
    assert rejected == interactions.rejected == {f"{place} {reason}": 2}


def test_each_row_is_counted_once_under_the_first_reason() -> None:
    _, rejected = built(user_id=["u", None, "", "w"], item_id=["i", "", "j", None])
    assert rejected == {"user_id is missing": 1, "user_id is empty": 1, "item_id is missing": 1}


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3), st.binary(max_size=2),
    st.sampled_from(["1", "1.0", "nan", "True", "", "\ud800", 1, 1.0, True, Decimal(1), np.int64(1), 10**400]),
)  # fmt: skip


@given(st.lists(scalars, max_size=12))
def test_what_a_value_means_does_not_depend_on_its_neighbours(values: list[Any]) -> None:
    def names(values: list[Any]) -> list[Any]:
        vocabulary = Vocabulary()
        codes = vocabulary.encode(column(*values))
        ids = {code: one for one, code in vocabulary._codes.items()}
        return [ids.get(code, code) for code in codes.tolist()]

    assert names(values) == [name for value in values for name in names([value])]


ratings = st.one_of(
    scalars, st.sampled_from(["5", " 5 ", "1_000", "٣", "1e2", "0x10", "1,5", "inf", "-2.5", 2**70])
)


@given(st.lists(ratings, max_size=12))
def test_a_rating_does_not_depend_on_its_neighbours_and_is_finite(values: list[Any]) -> None:
    together = ratings_of(column(*values))
    assert np.isfinite(together).all()
    assert together.tolist() == [rating for value in values for rating in ratings_of(column(value)).tolist()]


@pytest.mark.parametrize(
    ("value", "rating"),
    [(None, 1), ("", 1), ("good", 1), (math.nan, 1), (math.inf, 1), ("-inf", 1), ("1e400", 1), (1e300, 1),
     ([5], 1), (b"x", 1), (10**400, 1),
     (5, 5), ("5", 5), (" 4.5 ", 4.5), (-2, -2), ("-2", -2), ("0", 0), (0, 0), (Decimal("3.5"), 3.5)],
    ids=repr,
)  # fmt: skip
def test_a_rating_that_is_no_finite_number_is_one(value: object, rating: float) -> None:
    assert ratings_of(column(value)).tolist() == [rating]
    assert ratings_of(column(value, "2", 3)).tolist() == [rating, 2, 3]


def test_without_a_column_of_ratings_each_counts_as_one() -> None:
    interactions, _ = built(user_id=["u", "v"], item_id=["i", "j"])
    assert interactions.ratings.tolist() == [1, 1]


def test_of_repeated_pairs_the_last_one_stands_across_batches() -> None:
    builder = InteractionsBuilder({})
    for rating in (5, 2, 4):
        columns = {
            "user_id": column("u", "v", "u"),
            "item_id": column("i", "i", "i"),
            "rating": column(9, 1, rating),
        }
        builder.add(Batch(tuple(columns), columns))
    interactions = builder.build()
    assert pairs(interactions) == {("u", "i"): 4, ("v", "i"): 1}
    assert interactions.rows_used == 9


rows = st.lists(
    st.tuples(st.sampled_from("zay"), st.sampled_from(["10", "9", "é", "\uffff", "😀"]), st.integers(0, 5))
)


@given(rows.filter(bool), st.integers(1, 5))
def test_interactions_are_what_a_dictionary_would_hold(table: list[tuple[str, str, int]], size: int) -> None:
    builder = InteractionsBuilder({})
    for start in range(0, len(table), size):
        users, items, given_ratings = zip(*table[start : start + size], strict=True)
        columns = {"user_id": column(*users), "item_id": column(*items), "rating": column(*given_ratings)}
        builder.add(Batch(tuple(columns), columns))
    interactions = builder.build()
    assert pairs(interactions) == {(user, item): rating for user, item, rating in table}
    for ids in (interactions.users, interactions.items):
        assert ids == sorted(set(ids), key=str.encode)
    for start, stop in zip(interactions.indptr[:-1], interactions.indptr[1:], strict=True):
        assert (np.diff(interactions.indices[start:stop]) > 0).all()


def test_columns_are_renamed_swapped_and_replaced() -> None:
    columns: dict[str, list[Any]] = {"user_id": ["i"], "item_id": ["u"], "rating": [9], "stars": [3]}
    renames = {"user_id": "item_id", "item_id": "user_id", "stars": "rating", "absent": "timestamp"}
    assert pairs(built(renames, **columns)[0]) == {("u", "i"): 3}
    assert InteractionsBuilder(renames).wanted() == {"user_id", "item_id", "rating", "stars"}
    away = built({"rating": "ignored"}, user_id=["u"], item_id=["i"], rating=[9])[0]
    assert pairs(away) == {("u", "i"): 1}


def failure(batches: list[Batch], renames: Mapping[str, str] = {}) -> str:
    """The sentence with which nothing comes of some batches."""
    builder = InteractionsBuilder(renames)
    for batch in batches:
        builder.add(batch)
    with pytest.raises(SourceFailed) as error:
        builder.build()
    return str(error.value)


def test_a_missing_column_is_named_with_those_that_were_found() -> None:
    found = ("userId", "item_id", "a'b\n")
    sentence = failure([Batch(found, {"item_id": column("i")})])
    assert sentence == (
        "The source has no column user_id; columns found: 'userId', 'item_id', \"a'b\\n\". "
        "Say which is which in rename_columns of the data chef, like userId->user_id."
    )
    both = failure([Batch(tuple(f"c{number}" for number in range(30)), {})])
    assert "no column user_id and no column item_id" in both
    assert "'c19' and 10 more. Say" in both
    renamed_away = failure([Batch(("user_id", "item_id"), {"user_id": column("u")})], {"item_id": "thing"})
    assert "no column item_id;" in renamed_away


def test_a_source_without_rows_says_so() -> None:
    assert failure([]) == (
        "The source holds no rows; no columns were found. Check the path, query or address of the data chef."
    )
    empty = Batch(("user_id", "item_id"), {"user_id": column(), "item_id": column()})
    assert failure([empty]).startswith("The source holds no rows; columns found: 'user_id', 'item_id'.")


def test_rows_of_which_none_is_usable_say_why() -> None:
    columns = {"user_id": column("", "u", None), "item_id": column("i", "", "j")}
    assert failure([Batch(tuple(columns), columns)]) == (
        "None of the 3 rows is usable (user_id is empty: 1, user_id is missing: 1, item_id is empty: 1); "
        "columns found: 'user_id', 'item_id'. Correct the data or the chef."
    )
