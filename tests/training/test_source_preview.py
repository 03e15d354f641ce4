"""A look at the first rows of a source."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recserver._internal.chefs.protocol import Batch, Rejection, RestartRead
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import SourceFailed
from recserver._internal.training.jobs import Preview, PreviewJob
from recserver._internal.training.preview.json_values import to_json_value
from recserver._internal.training.preview.source_preview import MAX_PREVIEW_BYTES, VALIDATED_ROWS, preview
from tests.helpers.source_columns import column

Look = Callable[..., Preview]


class ListedChef:
    """Hands over the batches that a test has put here. See :class:`recserver._internal.chefs.Chef`."""

    batches_to_give: ClassVar[list[Batch]] = []
    closed = False
    given = 0

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        ListedChef.closed, ListedChef.given = False, 0

    def warnings(self) -> list[str]:
        return []

    def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
        assert wanted is None
        try:
            for batch in self.batches_to_give:
                ListedChef.given += 1
                yield batch
        finally:
            ListedChef.closed = True


@pytest.fixture
def look_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Look:
    """Previews batches under an entry."""
    monkeypatch.setattr(
        "recserver._internal.training.ingest.source_reader.load_chef_class", lambda kind: ListedChef
    )

    def look(*batches: Batch, rows: int = 20, **entry: Any) -> Preview:
        ListedChef.batches_to_give = list(batches)
        return preview(PreviewJob(data_chef=entry, policy=SourcePolicy(data_dir=tmp_path), rows=rows))

    return look


@pytest.fixture
def look_at_csv(tmp_path: Path) -> Look:
    """Previews a file of comma-separated text under an entry."""

    def look(text: str, rows: int = 20, **entry: Any) -> Preview:
        (tmp_path / "rows.csv").write_text(text)
        entry = {"type": "csv", "path": "rows.csv"} | entry
        return preview(PreviewJob(data_chef=entry, policy=SourcePolicy(data_dir=tmp_path), rows=rows))

    return look


def batch(**columns: Any) -> Batch:
    named = {name: column(*one) if isinstance(one, list) else one for name, one in columns.items()}
    return Batch(tuple(named), named)


def test_rows_are_shown_before_and_after_renaming(look_at_csv: Look) -> None:
    seen = look_at_csv(
        "userId,movieId,stars,note\n1,a,4.5,x\n,b,2,\n3,c,many,y\n",
        rename_columns="userId->user_id,movieId->item_id,stars->rating",
    )
    assert seen.raw == [
        {"userId": "1", "movieId": "a", "stars": "4.5", "note": "x"},
        {"userId": "", "movieId": "b", "stars": "2", "note": ""},
        {"userId": "3", "movieId": "c", "stars": "many", "note": "y"},
    ]
    assert seen.renamed == [
        {"user_id": "1", "item_id": "a", "rating": 4.5, "note": "x"},
        {"user_id": "", "item_id": "b", "rating": 2, "note": "", "_rejected": "user_id is empty"},
        {"user_id": "3", "item_id": "c", "rating": 1, "note": "y"},
    ]
    assert seen.columns == ["userId", "movieId", "stars", "note"]
    assert seen.rejected == {"user_id is empty": 1}
    assert seen.replaced == {"rating is not a number": 1}
    assert seen.examples == {
        "user_id is empty": "user_id='', item_id='b', rating='2'",
        "rating is not a number": "rating='many'",
    }
    assert seen.suggestions == ["In 1 of 3 rows the rating is not a number, such as 'many': such a row counts 1."]
    assert seen.rows_read == 3


def test_a_missing_column_is_suggested_and_not_counted_row_by_row(look_at_csv: Look) -> None:
    seen = look_at_csv("userId,item_id,rating\n1,a,4\n2,,5\n")
    assert seen.suggestions == [
        "There is no column user_id; found 'userId': add userId->user_id to rename_columns.",
        "Corrected rename_columns: userId->user_id",
    ]
    assert seen.rejected == seen.examples == {}
    assert seen.renamed == [
        {"userId": "1", "item_id": "a", "rating": 4},
        {"userId": "2", "item_id": "", "rating": 5},
    ]


def test_events_and_times_are_shown_as_a_training_takes_them(look_at_csv: Look) -> None:
    seen = look_at_csv(
        "user_id,item_id,kind,at\nu,a,view,1700000000\nu,b,order,1700000000000\nu,c,look,2026-01-02\nu,d,view,soon\n",
        event_column="kind",
        event_weights={"view": 1, "order": 5.5},
        timestamp_column="at",
    )
    assert [row.get("rating") for row in seen.renamed] == [1, 5.5, None, 1]
    assert [row["at"] for row in seen.renamed] == [
        "2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z", "2026-01-02T00:00:00Z", "soon",
    ]  # fmt: skip
    assert [row.get("_rejected") for row in seen.renamed] == [
        None, None, "kind has no weight in event_weights", "at is no time",
    ]  # fmt: skip
    assert [row["at"] for row in seen.raw] == ["1700000000", "1700000000000", "2026-01-02", "soon"]


def test_more_rows_are_judged_than_shown_and_no_more_than_needed(look_at: Look) -> None:
    good = batch(user_id=["u"] * 400, item_id=["i"] * 400)
    late = batch(user_id=["u"] * 399 + [""], item_id=["i"] * 400)
    seen = look_at(good, late, good, good, rows=3)
    assert (len(seen.raw), len(seen.renamed), seen.rows_read) == (3, 3, VALIDATED_ROWS)
    assert seen.rejected == {"user_id is empty": 1}
    assert (ListedChef.given, ListedChef.closed) == (3, True)


def test_rows_of_several_batches_are_shown_together(look_at: Look) -> None:
    seen = look_at(batch(user_id=["u", "v"], item_id=["i", "j"]), batch(user_id=["w"], item_id=["k"]), rows=3)
    assert [row["user_id"] for row in seen.renamed] == ["u", "v", "w"]


def test_what_a_chef_itself_leaves_out_is_counted(look_at: Look) -> None:
    one = batch(user_id=["u"], item_id=["i"])
    ragged = Rejection("has more fields than the header", 2, "line 7: a,b,c")
    seen = look_at(Batch(one.column_names, one.columns, rejected=(ragged,)))
    assert seen.rejected == {"the row has more fields than the header": 2}
    assert seen.examples == {"the row has more fields than the header": "line 7: a,b,c"}
    assert (len(seen.raw), seen.rows_read) == (1, 3)


def test_a_chef_may_start_over_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Hesitant(ListedChef):
        tries = 0

        def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
            Hesitant.tries += 1
            yield batch(user_id=["u"], item_id=[f"of try {self.tries}"])
            if self.tries == 1:
                raise RestartRead

    monkeypatch.setattr("recserver._internal.training.ingest.source_reader.load_chef_class", lambda kind: Hesitant)
    seen = preview(PreviewJob(data_chef={}, policy=SourcePolicy(data_dir=tmp_path)))
    assert (seen.rows_read, seen.raw, Hesitant.tries) == (1, [{"user_id": "u", "item_id": "of try 2"}], 2)


@pytest.mark.parametrize("batches", [[], [Batch((), {})], [batch(user_id=[], item_id=[])]])
def test_a_source_without_rows_says_so(look_at: Look, batches: list[Batch]) -> None:
    seen = look_at(*batches)
    assert seen.suggestions == ["The source holds no rows: check the path, query or address of the data chef."]
    assert (seen.raw, seen.renamed, seen.rejected, seen.rows_read) == ([], [], {}, 0)


def test_a_header_alone_is_enough_for_suggestions(look_at_csv: Look) -> None:
    seen = look_at_csv("customer,sku\n")
    assert seen.columns == ["customer", "sku"]
    assert "Corrected rename_columns: customer->user_id,sku->item_id" in seen.suggestions


def test_a_column_that_is_called_like_the_reason_is_only_among_the_raw_ones(look_at: Look) -> None:
    seen = look_at(batch(user_id=["u", None], item_id=["i", "j"], _rejected=["x", "y"]))
    assert [row["_rejected"] for row in seen.raw] == ["x", "y"]
    assert [row.get("_rejected") for row in seen.renamed] == [None, "user_id is missing"]


def test_a_renamed_column_replaces_one_of_its_name(look_at: Look) -> None:
    seen = look_at(batch(user_id=["old"], uid=["new"], item_id=["i"]), rename_columns="uid->user_id")
    assert seen.renamed == [{"user_id": "new", "item_id": "i", "rating": 1}]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "text"), ("", ""), (None, None), (True, True), (7, 7), (2**70, str(2**70)), (0.5, 0.5),
        (float("nan"), None), (float("inf"), "inf"), (pd.NaT, None), (pd.NA, None), (np.int64(3), 3),
        (np.float32(0.5), 0.5), (np.datetime64("2026-01-02"), "2026-01-02"), (np.bool_(False), False),
        (10**5000, "(a number of very many digits)"), (Decimal("4.50"), 4.5), (Decimal("7.0"), 7),
        (Decimal("0.1234567890123456789"), "0.1234567890123456789"), (Decimal("1E+1000000"), "1E+1000000"),
        (Decimal("NaN"), None), (date(2026, 1, 2), "2026-01-02"), (time(3, 4), "03:04:00"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"), (b"\x00\xff", "00ff"), (b"a" * 40, "61" * 32 + "…"),
        ("x" * 300, "x" * 199 + "…"), ("\ud800", "?"), ([1, [2, None]], [1, [2, None]]),
        ({"a": {1, }, "b": (2,)}, {"a": [1], "b": [2]}), ([[[[[1]]]]], [[["…"]]]),
        (list(range(50)), [*range(20), "…"]),
        ({str(n): n for n in range(21)}, {str(n): n for n in range(20)} | {"…": "…"}),
    ],
    ids=range(34),
)  # fmt: skip
def test_values_of_every_kind_become_json(look_at: Look, value: object, shown: object) -> None:
    seen = look_at(batch(user_id=["u"], item_id=["i"], more=column(value)))
    assert seen.raw[0]["more"] == shown
    assert json.loads(json.dumps(seen.model_dump(), allow_nan=False)) == seen.model_dump()


def test_nested_values_are_shortened_as_a_whole() -> None:
    shown = to_json_value({f"key {n}": "x" * 100 for n in range(5)})
    assert isinstance(shown, str) and len(shown) == 200 and shown.startswith('{"key 0": "xxx')


class Sullen:
    """A value that cannot be made text."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_value_that_cannot_be_shown_does_no_harm(look_at: Look) -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")]
    )
    seen = look_at(batch(user_id=["u"], item_id=["i"], more=broken, other=column(Sullen())))
    assert seen.raw[0]["more"] == "(cannot be shown)"
    assert "Sullen" in seen.raw[0]["other"]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", "b"]).dictionary_encode(), pa.chunked_array([["a"], ["b"]]), np.array(["a", "b"]),
        pa.array(["a", "b"], pa.large_string()),
    ],
    ids=["dictionary", "chunked", "numpy", "large"],
)  # fmt: skip
def test_columns_of_every_kind_are_shown(look_at: Look, array: Any) -> None:
    numbers = pa.array([1, 2])
    seen = look_at(batch(user_id=array, item_id=numbers, at=pa.array([0, 1], pa.timestamp("s")), rows=numbers))
    assert seen.raw == [
        {"user_id": "a", "item_id": 1, "at": "1970-01-01T00:00:00", "rows": 1},
        {"user_id": "b", "item_id": 2, "at": "1970-01-01T00:00:01", "rows": 2},
    ]
    assert [(row["user_id"], row["item_id"]) for row in seen.renamed] == [("a", "1"), ("b", "2")]


@pytest.mark.parametrize(("columns", "text"), [(3, "x" * 5000), (300, "\u20ac" * 5000), (2000, "x")])
def test_however_large_the_rows_are_the_answer_stays_small(look_at: Look, columns: int, text: str) -> None:
    wide = {f"{'c' * 300}{n}": [text] * 1000 for n in range(columns)}
    seen = look_at(batch(**wide, user_id=["u"] * 1000, item_id=["i"] * 1000), rows=1000)
    assert len(json.dumps(seen.model_dump())) < 2 * MAX_PREVIEW_BYTES
    assert len(seen.raw) == len(seen.renamed) < 1000
    assert all(row["user_id"] == "u" for row in seen.renamed)
    assert seen.rows_read == 1000


def test_a_source_that_repeats_its_secrets_does_not_give_them_away(
    look_at: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "canary/of the environment")
    echo = [
        "key=canary-written", "canary/of the environment", "x" * 190 + "canary-written",
        "canary%2Fof%20the%20environment", {"canary-written": ["canary-written"]},
    ]  # fmt: skip
    rows = [*echo, "", "u" * 300 + "canary-written"]
    seen = look_at(
        batch(**{"user_id": rows, "item_id": ["i"] * len(rows), "canary-written": rows}),
        url="https://shop.example/?api_key=canary-written&token=${SHOP_TOKEN}",
    )
    assert seen.rows_read == len(rows) and len(seen.rejected) > 1
    assert "canary" not in json.dumps(seen.model_dump()).replace("${SHOP_TOKEN}", "")


def test_a_password_that_is_a_common_word_leaves_the_names_of_columns_alone(look_at: Look) -> None:
    seen = look_at(
        batch(user=["u"], item_id=["i"]),
        connection="postgresql://reader:user@db/shop",
        rename_columns="user->user_id",
    )
    assert [set(row) for row in seen.renamed] == [{"user_id", "item_id", "rating"}]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"path": "none.csv"}, "There is no file 'none.csv'"),
        ({"path": "../x.csv"}, "The data chef cannot be used: path: '../x.csv' is outside the data folder"),
        ({"path": "${NO_SUCH_PATH}"}, "The environment variable NO_SUCH_PATH is not set"),
        ({}, "The data chef cannot be used: path: is missing."),
        ({"type": None}, "The data chef cannot be used: type: is missing: set it to csv, sql or api."),
        ({"type": "cvs"}, "The data chef cannot be used: type: 'cvs' is not known: take one of api, csv, sql."),
        ({"rename_columns": "a"}, "The data chef cannot be used: rename_columns: 'a' is not a pair"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, entry: dict[str, Any], sentence: str) -> None:
    assert "NO_SUCH_PATH" not in os.environ
    with pytest.raises(SourceFailed) as failure:
        preview(PreviewJob(data_chef={"type": "csv"} | entry, policy=SourcePolicy(data_dir=tmp_path)))
    assert str(failure.value).startswith(sentence)


def test_errors_hide_what_a_variable_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER", "canary-folder")
    with pytest.raises(SourceFailed) as failure:
        entry = {"type": "csv", "path": "${FOLDER}/x.csv"}
        preview(PreviewJob(data_chef=entry, policy=SourcePolicy(data_dir=tmp_path)))
    assert "canary" not in str(failure.value) and "${FOLDER}/x.csv" in str(failure.value)


def test_the_file_is_let_go(look_at_csv: Look) -> None:
    look_at_csv("user_id,item_id\n")
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert look_at_csv("user_id,item_id,note\n" + "u,i,n\n" * 50_000, rows=1).rows_read == VALIDATED_ROWS
    assert len(list(Path("/proc/self/fd").iterdir())) == before
