"""From batches to interactions: repeated pairs, fading weights, renamed columns, and what is said of bad rows."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserver._internal.chefs.protocol import Batch, Rejection
from recserver._internal.chefs.row_rules import RepeatedPairs, row_rules
from recserver._internal.core.errors import SourceFailed
from recserver._internal.training.ingest.interactions_builder import InteractionsBuilder
from tests.helpers.source_columns import batch, built, column, pairs

DAY = 86_400


def test_without_a_column_of_ratings_each_counts_as_one() -> None:
    interactions, _ = built(batch(user_id=["u", "v"], item_id=["i", "j"]))
    assert interactions.ratings.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("rule", "rating"), [(None, 4), ("last", 4), ("first", 9), ("max", 9), ("sum", 38)], ids=str
)
def test_repeated_pairs_become_one_by_the_rule_across_batches(rule: str | None, rating: float) -> None:
    batches = [
        batch(user_id=["u", "v", "u"], item_id=["i", "i", "i"], rating=[9, 1, given]) for given in (5, 2, 4)
    ]
    interactions, _ = built(*batches, repeated_pairs=rule)
    assert pairs(interactions) == {("u", "i"): rating, ("v", "i"): 3 if rule == "sum" else 1}
    assert interactions.rows_used == 9


def test_weighted_events_count_by_the_strongest_unless_told_otherwise() -> None:
    rows = batch(user_id=["u"] * 3, item_id=["i"] * 3, event=["view", "order", "view"])
    weights = {"view": 1, "order": 5}
    assert pairs(built(rows, event_weights=weights)[0]) == {("u", "i"): 5}
    assert pairs(built(rows, event_weights=weights, repeated_pairs="last")[0]) == {("u", "i"): 1}
    assert pairs(built(rows, event_weights=weights, repeated_pairs="sum")[0]) == {("u", "i"): 7}


@pytest.mark.parametrize(("rule", "rating"), [("last", 2), ("first", 3)])
def test_where_times_are_known_they_say_which_row_is_the_last(rule: str, rating: float) -> None:
    rows = batch(user_id=["u"] * 4, item_id=["i"] * 4, rating=[1, 2, 3, 4], at=[50, 90, 10, 70])
    interactions, _ = built(rows, timestamp_column="at", repeated_pairs=rule)
    assert pairs(interactions) == {("u", "i"): rating}


def test_rows_of_the_same_time_stand_in_the_order_of_the_source() -> None:
    rows = batch(user_id=["u"] * 3, item_id=["i"] * 3, rating=[1, 2, 3], timestamp=[5, 5, 5])
    assert pairs(built(rows, timestamp_column="timestamp")[0]) == {("u", "i"): 3}


def test_weights_halve_with_every_half_life_before_the_newest_row() -> None:
    rows = batch(user_id=["u", "v", "w"], item_id=["i"] * 3, rating=[8, 8, 8],
                 timestamp=[100 * DAY, 70 * DAY, 10 * DAY])  # fmt: skip
    faded, _ = built(rows, half_life_days=30)
    assert pairs(faded) == {("u", "i"): 8, ("v", "i"): 4, ("w", "i"): 1}
    later = batch(user_id=["x"], item_id=["i"], rating=[8], timestamp=[130 * DAY])
    assert pairs(built(rows, later, half_life_days=30)[0])["u", "i"] == 4


def test_a_row_of_the_far_future_does_not_make_the_others_old() -> None:
    rows = batch(user_id=["u", "v", "w"], item_id=["i"] * 3, rating=[8, 8, 8],
                 timestamp=["9999-01-01", "2026-01-31", "2026-01-01"])  # fmt: skip
    assert pairs(built(rows, half_life_days=30)[0]) == {("u", "i"): 8, ("v", "i"): 8, ("w", "i"): 4}


def test_rows_without_a_time_are_left_out_where_time_counts() -> None:
    rows = batch(user_id=["u", "v"], item_id=["i", "i"], at=["2026-01-02", "soon"])
    interactions, rejected = built(rows, timestamp_column="at")
    assert interactions.users == ["u"]
    assert rejected == {"at is no time": 1}
    assert built(rows)[0].users == ["u", "v"]


def test_the_sum_of_huge_ratings_is_finite() -> None:
    rows = batch(user_id=["u"] * 2, item_id=["i"] * 2, rating=[3e38, 3e38])
    assert np.isfinite(built(rows, repeated_pairs="sum")[0].ratings).all()


MERGE = {"sum": sum, "last": lambda one: one[-1], "first": lambda one: one[0], "max": max}
rows_of = st.lists(
    st.tuples(
        st.sampled_from("zay"),
        st.sampled_from(["10", "9", "é", "\uffff", "😀"]),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
    min_size=1,
)


@given(rows_of, st.integers(1, 5), st.sampled_from(list(RepeatedPairs)), st.booleans())
def test_interactions_are_what_a_dictionary_would_hold(
    table: list[tuple[str, str, int, int]], size: int, rule: RepeatedPairs, timed: bool
) -> None:
    batches = []
    for start in range(0, len(table), size):
        users, items, ratings, times = zip(*table[start : start + size], strict=True)
        batches.append(batch(user_id=list(users), item_id=list(items), rating=list(ratings), at=list(times)))
    interactions, _ = built(*batches, repeated_pairs=rule, timestamp_column="at" if timed else None)
    expected: dict[tuple[str, str], list[int]] = {}
    for user, item, rating, _ in sorted(table, key=lambda row: row[3]) if timed else table:
        expected.setdefault((user, item), []).append(rating)
    assert pairs(interactions) == {pair: MERGE[rule](ratings) for pair, ratings in expected.items()}
    for ids in (interactions.users, interactions.items):
        assert ids == sorted(set(ids), key=str.encode)
    for start, stop in zip(interactions.indptr[:-1], interactions.indptr[1:], strict=True):
        assert (np.diff(interactions.indices[start:stop]) > 0).all()
    if timed:
        latest = {(user, item): at for user, item, _, at in sorted(table, key=lambda row: row[3])}
        assert pairs(interactions, interactions.times) == latest
    else:
        assert interactions.times is None


def test_more_ids_than_rows_are_put_in_order_as_well() -> None:
    count = 300
    ids = [f"{number:04}" for number in range(count)]
    interactions, _ = built(batch(user_id=ids[::-1], item_id=ids))
    assert pairs(interactions) == dict.fromkeys(zip(ids[::-1], ids, strict=True), 1)


def test_columns_are_renamed_swapped_and_replaced() -> None:
    rows = batch(user_id=["i"], item_id=["u"], rating=[9], stars=[3])
    renames = {"user_id": "item_id", "item_id": "user_id", "stars": "rating", "absent": "timestamp"}
    assert pairs(built(rows, rename_columns=renames)[0]) == {("u", "i"): 3}
    rated = batch(user_id=["u"], item_id=["i"], rating=[9])
    assert pairs(built(rated, rename_columns="rating->ignored")[0]) == {("u", "i"): 1}


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ({"rename_columns": "a->user_id,b->other"}, {"user_id", "item_id", "rating", "a"}),
        ({"constant_rating": 1}, {"user_id", "item_id"}),
        ({"event_weights": {"view": 1}, "rename_columns": "kind->event"}, {"user_id", "item_id", "event", "kind"}),
        ({"event_weights": {"view": 1}, "event_column": "kind"}, {"user_id", "item_id", "kind"}),
        ({"half_life_days": 30}, {"user_id", "item_id", "rating", "timestamp"}),
        ({"timestamp_column": "at"}, {"user_id", "item_id", "rating", "at"}),
    ],
    ids=range(6),
)
def test_only_the_columns_that_count_are_asked_for(entry: dict[str, Any], names: set[str]) -> None:
    assert InteractionsBuilder(row_rules(entry)).required_columns() == names


def test_everything_that_was_read_is_accounted_for() -> None:
    builder = InteractionsBuilder(row_rules({}))
    rows = batch(user_id=["u", "", "w"], item_id=["i", "j", "k"])
    builder.add(Batch(rows.column_names, rows.columns, 100, (Rejection("is not a JSON object", 2, "7"),)))
    builder.add(batch(user_id=[""], item_id=["x"]))
    builder.add(Batch(rows.column_names, {}, 20, (Rejection("is not a JSON object"),)))
    assert (builder.counts.rows_read, builder.counts.rows_kept, builder.counts.n_bytes) == (7, 2, 120)
    assert builder.counts.rejected == {"user_id is empty": 2, "the row is not a JSON object": 3}
    assert builder.counts.examples == {
        "user_id is empty": "user_id='', item_id='j'",
        "the row is not a JSON object": "7",
    }
    assert builder.build().rejected == builder.counts.rejected


def failure(*batches: Batch, **entry: Any) -> str:
    """The sentence with which nothing comes of some batches."""
    with pytest.raises(SourceFailed) as error:
        built(*batches, **entry)
    return str(error.value)


def test_a_missing_column_is_named_with_what_to_do() -> None:
    assert failure(Batch(("userId", "item_id"), {"item_id": column("i")})) == (
        "There is no column user_id; found 'userId': add userId->user_id to rename_columns. "
        "Corrected rename_columns: userId->user_id"
    )
    away = failure(batch(user_id=["u"], item_id=["i"]), rename_columns="item_id->thing")
    assert away.startswith("There is no column item_id; ")
    for entry, name in (({"event_weights": {"view": 1}}, "event"), ({"half_life_days": 1}, "timestamp")):
        assert failure(batch(user_id=["u"], item_id=["i"]), **entry).startswith(f"There is no column {name}; ")


def test_a_source_without_rows_says_so() -> None:
    sentence = "The source holds no rows. Check the path, query or address of the data chef."
    assert failure() == failure(batch(user_id=[], item_id=[])) == sentence


def test_rows_of_which_none_is_usable_say_why() -> None:
    assert failure(batch(user_id=["", "u", None], item_id=["i", "", "j"])) == (
        "None of the 3 rows is usable (user_id is missing: 1, such as user_id=None, item_id='j'; "
        "user_id is empty: 1, such as user_id='', item_id='i'; "
        "item_id is empty: 1, such as user_id='u', item_id=''). Correct the data or the data chef."
    )


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"repeated_pairs": "median"}, "be 'sum', 'last', 'max' or 'first'"),
        ({"event_weights": {}}, 'must be an object of events and their weights, such as {"view": 1, "order": 5}'),
        ({"event_weights": {"view": -1}}, "the weight of 'view' must be a number from 0 to 1000000"),
        ({"event_weights": {"view": "1"}}, "the weight of 'view' must be a number"),
        ({"event_weights": {" ": 1}}, "' ' is not a valid event: names must be text"),
        ({"event_weights": "view"}, "must be an object of events and their weights"),
        ({"event_column": "kind"}, 'event_column needs event_weights, such as {"view": 1, "order": 5}'),
        ({"event_weights": {"a": 1}, "constant_rating": 1},
         "constant_rating and event_weights exclude each other: give one"),
        ({"constant_rating": math.nan}, "must be a finite number"),
        ({"constant_rating": True}, "must be a number"),
        ({"half_life_days": 0}, "must be days, more than 0 and at most 36600"),
        ({"half_life_days": "30"}, "must be a number"),
    ],
    ids=repr,
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused(entry: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        row_rules(entry)


def test_arrow_columns_make_the_same_interactions() -> None:
    users, items, ratings = ["b", "a", "b", ""], ["y", "x", "x", "y"], ["1", "2", "x", "3"]
    plain = built(batch(user_id=users, item_id=items, rating=ratings))
    arrow = built(
        batch(
            user_id=pa.array(users).dictionary_encode(), item_id=pa.chunked_array([items[:1], items[1:]]),
            rating=pa.array(ratings),
        )
    )  # fmt: skip
    assert pairs(plain[0]) == pairs(arrow[0]) == {("b", "y"): 1, ("a", "x"): 2, ("b", "x"): 1}
    assert plain[1] == arrow[1] == {"user_id is empty": 1}
