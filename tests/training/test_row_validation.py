"""What a row is worth and when it happened, and what is said of rows that are no interactions."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserver._internal.chefs.protocol import Batch, Rejection
from recserver._internal.chefs.row_rules import row_rules
from recserver._internal.training.ingest import value_parsing as numbers
from recserver._internal.training.ingest.row_counts import OTHER_REASONS, RowCounts
from recserver._internal.training.ingest.row_validation import validate
from recserver._internal.training.ingest.value_parsing import parse_ratings, parse_times
from tests.helpers.source_columns import batch, column

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3), st.binary(max_size=2),
    st.sampled_from(["5", " 5 ", "1_000", "٣", "1e2", "0x10", "1,5", "inf", "-2.5", 2**70, "\ud800", Decimal(1)]),
)  # fmt: skip


@given(st.lists(scalars, max_size=12))
def test_a_rating_does_not_depend_on_its_neighbours_and_is_finite(values: list[Any]) -> None:
    together, unreadable = parse_ratings(column(*values))
    assert np.isfinite(together).all()
    alone = [parse_ratings(column(value)) for value in values]
    assert together.tolist() == [rating for ratings, _ in alone for rating in ratings.tolist()]
    assert unreadable.tolist() == [one for _, marks in alone for one in marks.tolist()]


def test_one_odd_value_among_many_is_looked_at_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are read one by one are counted: a column of times with a typo must not take minutes."""
    looked_at: list[object] = []
    one_by_one = numbers._as_time

    def counted(value: object) -> float:
        looked_at.append(value)
        return one_by_one(value)

    monkeypatch.setattr(numbers, "_as_time", counted)
    texts = [str(1_500_000_000 + second) for second in range(5_000)]
    texts[1234] = "never"
    for array in (pa.array(texts), pa.array(texts).dictionary_encode()):
        found = parse_times(array)
        assert np.isnan(found[1234]) and np.isfinite(np.delete(found, 1234)).all()
        assert found[[0, -1]].tolist() == [1_500_000_000, 1_500_004_999]
        assert looked_at == ["never"]
        looked_at.clear()
    indices = pa.array([place for place in range(5_000) if place != 1234], pa.int32())
    assert np.isfinite(parse_times(pa.DictionaryArray.from_arrays(indices, pa.array(texts)))).all()
    assert looked_at == [], "a value that does not occur was looked at"


RATINGS = [
    (None, 1), ("", 1), ("good", 1), (math.nan, 1), (math.inf, 1), ("-inf", 1), ("1e400", 1), (1e300, 1),
    ([5], 1), (b"x", 1), (10**400, 1), ("1_000", 1), ("٣", 1),
    (5, 5), ("5", 5), (" 4.5 ", 4.5), ("4.5\n", 4.5),
    (-2, -2), ("-2", -2), ("0", 0), (0, 0), (Decimal("3.5"), 3.5),
    ("1e2", 100), (".5", 0.5), ("+3", 3),
]  # fmt: skip


def is_missing(value: object) -> bool:
    return value in ("", None) or (isinstance(value, float) and math.isnan(value))


@pytest.mark.parametrize(("value", "rating"), RATINGS, ids=repr)
def test_a_rating_that_is_no_finite_number_is_one(value: object, rating: float) -> None:
    unreadable = rating == 1 and not is_missing(value)

    def judged(values: Any) -> tuple[list[float], list[bool]]:
        ratings, marks = parse_ratings(values)
        return ratings.tolist(), marks.tolist()

    assert judged(column(value)) == ([rating], [unreadable])
    assert judged(column(value, "2", 3)) == ([rating, 2, 3], [unreadable, False, False])
    if isinstance(value, str):
        assert judged(pa.array([value, "2", value])) == ([rating, 2, rating], [unreadable, False, unreadable])
        assert judged(pa.array([value, None]).dictionary_encode()) == ([rating, 1], [unreadable, False])


@pytest.mark.parametrize(
    "values",
    [pa.array([2, None]), pa.array([2.0, math.nan]), pa.array([Decimal("2.00"), None]), pa.array(["2", None]),
     np.array([2.0, math.inf]), pa.array([2.0, 1e300]), pa.chunked_array([[2], [None]]),
     pa.array([2, None]).dictionary_encode(), pa.array(["2", " "])],
    ids=range(9),
)  # fmt: skip
def test_ratings_come_in_any_kind_of_column(values: Any) -> None:
    ratings, unreadable = parse_ratings(values)
    infinite = not isinstance(values, np.ndarray) and str(values.type) == "double" and values[1].as_py() == 1e300
    assert ratings.tolist() == [2, 1]
    assert unreadable.tolist() == [False, infinite or isinstance(values, np.ndarray)]


def test_rows_whose_rating_is_no_number_are_kept_and_counted() -> None:
    rows = Batch(
        ("user_id", "item_id", "rating"),
        {"user_id": column("u", "", "u"), "item_id": column("i", "i", "j"), "rating": column("0,5", "x", None)},
    )
    judged = validate(rows, row_rules({}))
    assert judged.valid.tolist() == [True, False, True]
    assert [(one.reason, one.rows.tolist(), one.example) for one in judged.replaced] == [
        ("rating is not a number", [0], "rating='0,5'")
    ]


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SECONDS = NOON.timestamp()
TIMES = [
    NOON, NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=5))),
    np.datetime64("2026-01-02T12:00"),
    SECONDS, int(SECONDS), SECONDS * 1e3, int(SECONDS) * 10**6, int(SECONDS) * 10**9, Decimal(int(SECONDS)),
    str(int(SECONDS)), f" {SECONDS} ", "2026-01-02T12:00:00", "2026-01-02 12:00", "2026-01-02T12:00:00Z",
    "2026-01-02T17:00:00+05:00", "2026-01-02T12:00:00.000Z", "20260102T120000Z",
]  # fmt: skip


@pytest.mark.parametrize("value", TIMES, ids=repr)
def test_times_are_dates_epochs_of_any_unit_or_iso_texts(value: object) -> None:
    value = value.item() if isinstance(value, np.datetime64) else value
    assert parse_times(column(value)).tolist() == [SECONDS]
    together = parse_times(column(value, "2026-01-02", 7, None))
    assert together[:3].tolist() == [SECONDS, SECONDS - 43200, 7]
    assert math.isnan(together[3])
    if isinstance(value, str):
        assert parse_times(pa.array([value, value]).dictionary_encode()).tolist() == [SECONDS, SECONDS]


@pytest.mark.parametrize("value", [None, "", "soon", math.nan, math.inf, True, [1], b"1", "2026-13-01", "24:00"])
def test_what_is_no_time_is_unknown(value: object) -> None:
    assert math.isnan(parse_times(column(value))[0])


@pytest.mark.parametrize(
    "values",
    [pa.array([NOON]), pa.array([NOON.replace(tzinfo=None)]), pa.array([NOON], pa.timestamp("s")),
     pa.array([int(SECONDS)]), pa.array([SECONDS]), np.array(["2026-01-02T12:00"], "datetime64[ns]"),
     pa.array(["2026-01-02T12:00:00"]), pa.array(["2026-01-02T12:00:00Z"]), pa.array([str(SECONDS)])],
    ids=range(9),
)  # fmt: skip
def test_times_come_in_any_kind_of_column(values: Any) -> None:
    assert parse_times(values).tolist() == [SECONDS]
    day = parse_times(pa.array([date(2026, 1, 2), None]))
    assert day[0] == SECONDS - 43200
    assert math.isnan(day[1])


@given(st.lists(st.one_of(scalars, st.sampled_from(["2026-01-02", "2026-01-02T03:04:05Z", NOON])), max_size=8))
def test_a_time_does_not_depend_on_its_neighbours(values: list[Any]) -> None:
    together = parse_times(column(*values))
    alone = np.array([parse_times(column(value))[0] for value in values], np.float64)
    assert np.array_equal(together, alone, equal_nan=True)


def test_events_are_worth_their_weight_and_others_are_left_out() -> None:
    rules = row_rules({"event_weights": {"view": 1, "order": 5, "ad": 0, 7: 2}, "rename_columns": "what->event"})
    rows = batch(user_id=["u"] * 7, item_id=["i"] * 7, what=["view", " order ", "ad", "share", None, 7, 7.0])
    judged = validate(rows, rules)
    assert judged.ratings[judged.valid].tolist() == [1, 5, 2, 2]
    assert {fault.reason: fault.rows.tolist() for fault in judged.errors} == {
        "event has the weight 0": [2],
        "event has no weight in event_weights": [3],
        "event is missing": [4],
    }


def test_events_that_arrow_cannot_compare_are_no_events() -> None:
    rules = row_rules({"event_weights": {"view": 1}})
    judged = validate(batch(user_id=["u"] * 2, item_id=["i"] * 2, event=[["view"], "view"]), rules)
    assert judged.valid.tolist() == [False, True]


def test_a_constant_rating_takes_no_notice_of_the_source() -> None:
    judged = validate(batch(user_id=["u"], item_id=["i"], rating=[9]), row_rules({"constant_rating": 2}))
    assert judged.ratings.tolist() == [2]


def test_each_row_is_named_once_for_the_first_thing_that_is_wrong_with_it() -> None:
    rules = row_rules({"timestamp_column": "at", "event_weights": {"view": 1}})
    rows = batch(
        user_id=["u", None, "", "w", "x", "y"],
        item_id=["i", "", "j", None, "k", "l"],
        event=["view", "?", "?", "?", "?", "view"],
        at=[1, None, None, None, None, "soon"],
    )
    judged = validate(rows, rules)
    assert [(fault.reason, fault.rows.tolist(), fault.example) for fault in judged.errors] == [
        ("user_id is missing", [1], "user_id=None, item_id='', event='?', at=None"),
        ("user_id is empty", [2], "user_id='', item_id='j', event='?', at=None"),
        ("item_id is missing", [3], "user_id='w', item_id=None, event='?', at=None"),
        ("event has no weight in event_weights", [4], "user_id='x', item_id='k', event='?', at=None"),
        ("at is no time", [5], "user_id='y', item_id='l', event='view', at='soon'"),
    ]
    assert judged.valid.tolist() == [True, False, False, False, False, False]


def test_a_column_that_the_batch_lacks_is_missing_in_every_row() -> None:
    judged = validate(batch(item_id=["i", "j"]), row_rules({}))
    assert [(fault.reason, fault.rows.tolist()) for fault in judged.errors] == [("user_id is missing", [0, 1])]


def test_what_the_chef_left_out_is_counted_as_well() -> None:
    rows = batch(user_id=["u", ""], item_id=["i", "j"])
    ragged = type(rows)(
        rows.column_names, rows.columns, rejected=(Rejection("has more fields than the header", 3, "a,b,c"),)
    )
    counts = RowCounts()
    counts.add(ragged)
    counts.add_errors(validate(ragged, row_rules({})))
    assert counts.rows_read == 5
    assert [(reason, count, counts.examples[reason]) for reason, count in counts.rejected.items()] == [
        ("the row has more fields than the header", 3, "a,b,c"),
        ("user_id is empty", 1, "user_id='', item_id='j'"),
    ]


def test_no_row_is_lost_where_there_are_too_many_reasons_or_equal_ones() -> None:
    counts = RowCounts(max_reasons=2)
    for number, reason in enumerate(["a", "b", "c", "b", "d"], 1):
        counts.add(Batch(("user_id",), {}, rejected=(Rejection(reason, number, f"row {number}"),)))
    assert counts.rejected == {"the row a": 1, "the row b": 6, OTHER_REASONS: 8}
    assert counts.rows_read == counts.rejected.total() == 15
    assert counts.report(lambda reason: "masked", str.upper) == {
        "rejected": {"masked": 15}, "replaced": {}, "examples": {"masked": "ROW 1"},
    }  # fmt: skip
