"""Which values are ids, whatever kind of column they come in, and how all of them become one table."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserver._internal.training.ingest import id_encoding as entities
from recserver._internal.training.ingest.id_encoding import Vocabulary, encode_ids
from tests.helpers.source_columns import batch, built, column, pairs

MISSING, EMPTY, OVERLONG = "is missing", "is empty", "is longer than 256 characters"
FOREIGN, NOT_UNICODE = "is neither text nor a number", "is not valid Unicode"

IDS = [
    ("u1", "u1"), (" u1 ", " u1 "), ("é日本😀", "é日本😀"), ("x" * 256, "x" * 256), ("\n", "\n"), ("nan", "nan"),
    ("7.0", "7.0"), ("007", "007"), (7, "7"), (7.0, "7"), (-7.0, "-7"), (7.5, "7.5"), (1e22, "1" + "0" * 22),
    (0, "0"), (-0.0, "0"), (2**70, str(2**70)), (np.int64(7), "7"), (np.float32(7), "7"), (np.str_("a"), "a"),
    (Decimal("7.00"), "7"), (Decimal("7.50"), "7.5"), (Decimal("1E+2"), "100"),
    (Decimal("1E-7"), "0.0000001"),
    (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
]  # fmt: skip
NO_IDS = [
    (None, MISSING), (math.nan, MISSING), (pd.NA, MISSING), (pd.NaT, MISSING), (np.float64("nan"), MISSING),
    ("", EMPTY), ("x" * 257, OVERLONG), (10**300, OVERLONG), (10**5000, OVERLONG),
    (Decimal("1E+999999"), OVERLONG), (Decimal("1E-999999"), OVERLONG),
    (True, FOREIGN), (False, FOREIGN), (np.bool_(True), FOREIGN),
    (b"u1", FOREIGN), (["u1"], FOREIGN), ({"id": 1}, FOREIGN), (("u", 1), FOREIGN), (math.inf, FOREIGN),
    (-math.inf, FOREIGN), (1j, FOREIGN), (date(2026, 1, 2), FOREIGN), (Decimal("Infinity"), FOREIGN),
    (object(), FOREIGN), ("\ud800", NOT_UNICODE), ("a\udfffb", NOT_UNICODE),
]  # fmt: skip


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("value", "text"), IDS, ids=range(len(IDS)))
def test_text_and_numbers_are_ids(value: object, text: str, alone: bool) -> None:
    extra = [] if alone else ["other", 3]
    interactions, rejected = built(batch(user_id=[value, *extra], item_id=["i", *extra]))
    assert text in interactions.users
    assert not rejected


@pytest.mark.parametrize("place", ["user_id", "item_id"])
@pytest.mark.parametrize(("value", "reason"), NO_IDS, ids=range(len(NO_IDS)))
def test_what_is_no_id_rejects_the_row_and_is_counted(value: object, reason: str, place: str) -> None:
    columns: dict[str, list[Any]] = {"user_id": ["u", "v", "w"], "item_id": ["i", "j", "k"]}
    columns[place] = ["good", value, value]
    interactions, rejected = built(batch(**columns))
    assert len(pairs(interactions)) == interactions.rows_used == 1
    assert rejected == interactions.rejected == {f"{place} {reason}": 2}


ARROW = [
    (pa.array(["a", None, ""]), ["a", MISSING, EMPTY]),
    (pa.array(["a", "x" * 257, "é" * 256], pa.large_string()), ["a", OVERLONG, "é" * 256]),
    (pa.array(["a", None], pa.string_view()), ["a", MISSING]),
    (pa.array([7, -7, None], pa.int16()), ["7", "-7", MISSING]),
    (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
    (pa.array([7.0, 7.5, math.nan, math.inf, None]), ["7", "7.5", MISSING, FOREIGN, MISSING]),
    (pa.array([Decimal("7.00"), Decimal("7.50"), None]), ["7", "7.5", MISSING]),
    (pa.array([True, None]), [FOREIGN, MISSING]),
    (pa.array([b"a", None]), [FOREIGN, MISSING]),
    (pa.array([["a"], None]), [FOREIGN, MISSING]),
    (pa.array([{"a": 1}, None]), [FOREIGN, MISSING]),
    (pa.array([date(2026, 1, 2), None]), [FOREIGN, MISSING]),
    (pa.nulls(2), [MISSING, MISSING]),
    (pa.array(["b", None, "a", "b"]).dictionary_encode(), ["b", MISSING, "a", "b"]),
    (pa.array(["b", None], pa.string()).dictionary_encode("encode"), ["b", MISSING]),
    (pa.DictionaryArray.from_arrays(pa.array([1, 0, None], pa.uint8()), pa.array([5, 6])), ["6", "5", MISSING]),
    (pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), pa.array(["a", "a", ""])), ["a", "a", EMPTY]),
    (pa.chunked_array([["a"], [None, "b"]]), ["a", MISSING, "b"]),
    (pa.chunked_array([], pa.string()), []),
    (pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffb")),
     ["a", NOT_UNICODE]),
    (np.array([7, -1]), ["7", "-1"]),
    (np.array([7.0, math.nan]), ["7", MISSING]),
    (np.array(["a", ""]), ["a", EMPTY]),
    (np.array([True]), [FOREIGN]),
    (np.array(["2026-01-02"], "datetime64[D]"), [FOREIGN]),
]  # fmt: skip


@pytest.mark.parametrize(("values", "meant"), ARROW, ids=range(len(ARROW)))
def test_every_kind_of_column_means_the_same(values: Any, meant: list[str]) -> None:
    assert names(values) == meant


def names(values: Any) -> list[str]:
    """The id of each value, or why it is none."""
    found = encode_ids(values)
    ids = found.ids.to_pylist()
    assert len(set(ids)) == len(ids) or isinstance(values, pa.DictionaryArray)
    return [ids[code] if code >= 0 else entities.INVALID_REASONS[-1 - code] for code in found.codes.tolist()]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3), st.binary(max_size=2),
    st.sampled_from(["1", "1.0", "nan", "True", "", "\ud800", 1, 1.0, True, Decimal(1), np.int64(1), 10**400]),
    st.just(2**60),
)  # fmt: skip


@given(st.lists(scalars, max_size=12))
def test_what_a_value_means_does_not_depend_on_its_neighbours(values: list[Any]) -> None:
    assert names(column(*values)) == [name for value in values for name in names(column(value))]


@given(st.lists(st.lists(st.sampled_from(["10", "9", "é", "\uffff", "😀", "never"]), max_size=6), max_size=8))
def test_a_vocabulary_is_ascending_and_holds_what_rows_were_added_for(batches: list[list[str]]) -> None:
    for unmerged in (0, 2**20):  # merging after each batch, and once at the end
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(entities, "MAX_PENDING_BYTES", unmerged)
            vocabulary = Vocabulary()
            for one in batches:
                found = encode_ids(pa.array(one, pa.string()))
                kept = np.array([text != "never" for text in one], bool)
                vocabulary.add(found.codes[kept], found.ids)
            ids, places = vocabulary.finish()
        rows = [text for one in batches for text in one if text != "never"]
        assert ids == sorted(set(rows))
        assert [ids[place] for place in places] == rows
