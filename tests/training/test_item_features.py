"""What a training reads of the attributes of items: kinds, values, what is left out, and when it is new."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recserver._internal.chefs.protocol import Batch, Rejection, RestartRead
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import SourceFailed, SourceUnchanged
from recserver._internal.recommend.filters import parse_condition
from recserver._internal.recommend.model.attribute_arrays import MAX_ATTRIBUTES
from recserver._internal.recommend.model.item_attributes import Attributes, require_attributes
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.storage.model_file import load
from recserver._internal.training.ingest.attribute_columns import AttributeColumn, EncodedAttribute
from recserver._internal.training.ingest.attribute_values import text_values
from recserver._internal.training.ingest.item_features import ItemFeatures, collect_features
from recserver._internal.training.jobs import Progress, TrainingJob, TrainingResult
from recserver._internal.training.worker.train import train

ITEMS = ["a", "b", "c", "d"]


def entry_of(path: Path, **more: Any) -> dict[str, Any]:
    return {"type": "csv", "path": path.name, **more}


def job(folder: Path, entry: dict[str, Any] | None, **more: Any) -> TrainingJob:
    return TrainingJob(
        model_id="m", model_version=1, algorithm="popular", hyperparameters={}, data_chef_id="c",
        data_chef={"type": "csv", "path": "rows.csv"}, item_features=entry,
        item_features_data_chef_id=None if entry is None else "films", policy=SourcePolicy(data_dir=folder),
        out=folder / "packed", **more,
    )  # fmt: skip


class Source:
    """A file of item features in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, text: str, name: str = "films.csv", **more: Any) -> ItemFeatures:
        path = self.folder / name
        path.write_text(text)
        return collect_features(job(self.folder, entry_of(path, **more)), ITEMS, lambda _: None)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def told(found: ItemFeatures) -> list[dict[str, Any]]:
    """What is known of each item."""
    assert found.attributes is not None
    attributes = Attributes.from_arrays(
        {"attributes": found.attributes.header}, found.attributes.arrays, len(ITEMS)
    )
    return [require_attributes(attributes).item_values(place) for place in range(len(ITEMS))]


def kinds(found: ItemFeatures) -> dict[str, str]:
    assert found.report is not None
    return found.report.attributes


def test_a_csv_file(source: Source) -> None:
    found = source.read(
        "movieId,title,genres,price,released\n"
        "b,Alien,Horror|Sci-Fi,19.99,1979-05-25\n"
        "a,Big,Comedy, 5 ,1988-06-03\n"
        "z,Unknown,Western,1,2000-01-01\n"
        "d,,| |,,\n",
        rename_columns="movieId->item_id,genres->genre",
    )
    assert kinds(found) == {"title": "text", "genre": "text", "price": "number", "released": "time"}
    assert told(found) == [
        {"title": "Big", "genre": ["Comedy"], "price": 5, "released": "1988-06-03T00:00:00.000Z"},
        {"title": "Alien", "genre": ["Horror", "Sci-Fi"], "price": 19.99, "released": "1979-05-25T00:00:00.000Z"},
        {},
        {},
    ]
    assert found.report is not None
    assert (found.report.rows_read, found.report.rows_kept, found.report.n_items) == (4, 4, 3)
    assert found.warnings == [] and found.report.rejected == {}


def test_values_of_other_items_are_not_stored(source: Source) -> None:
    found = source.read("item_id,genre,n\na,Comedy,1\nz,Western,many\n")
    assert kinds(found) == {"genre": "text", "n": "number"}
    assert found.attributes is not None
    assert found.attributes.arrays["attribute_text"].tobytes() == b"Comedy"


def test_json_lines(source: Source) -> None:
    rows = [
        {"item_id": "a", "tags": ["x", "y", None, " ", 5], "year": 1999, "sale": True, "rank": 1.5},
        {"item_id": "b", "tags": [], "year": 2001, "sale": False, "rank": 2},
        {"item_id": "c", "tags": "y|z", "year": None, "sale": None, "rank": "3"},
        {"item_id": "d", "tags": {"x": 1}, "extra": "only here"},
    ]
    found = source.read("\n".join(map(json.dumps, rows)), "films.jsonl")
    kind = {"tags": "text", "year": "number", "sale": "text", "rank": "number", "extra": "text"}
    assert kinds(found) == kind
    assert told(found) == [
        {"tags": ["5", "x", "y"], "year": 1999, "sale": "true", "rank": 1.5},
        {"year": 2001, "sale": "false", "rank": 2},
        {"tags": ["y", "z"], "rank": 3},
        {"extra": "only here"},
    ]
    assert found.warnings == [
        "1 values of the attribute 'tags' are not a text, number, time or list of these, and were left out."
    ]


def test_parquet_of_all_types(source: Source) -> None:
    moment = datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    columns = {
        "item_id": pa.array(["a", "b"]),
        "i": pa.array([1, None], pa.int64()),
        "f": pa.array([0.1, float("inf")]),
        "dec": pa.array([Decimal("1.50"), None], pa.decimal128(5, 2)),
        "bool": pa.array([True, None]),
        "day": pa.array([date(2020, 1, 2), None]),
        "at": pa.array([moment, None], pa.timestamp("ns", "Europe/Berlin")),
        "list": pa.array([["x", "y|z"], None]),
        "numbers": pa.array([[1, 2], []], pa.list_(pa.int32())),
        "dict": pa.array(["x", None]).dictionary_encode(),
        "large": pa.array(["x", ""], pa.large_string()),
        "nothing": pa.nulls(2),
        "bytes": pa.array([b"x", None]),
    }
    pq.write_table(pa.table(columns), source.folder / "films.parquet")
    path = source.folder / "films.parquet"
    found = collect_features(job(source.folder, entry_of(path)), ITEMS, lambda _: None)
    assert told(found)[:2] == [
        {
            "i": 1, "f": 0.1, "dec": 1.5, "bool": "true", "day": "2020-01-02T00:00:00.000Z",
            "at": "2020-01-02T01:04:05.000Z", "list": ["x", "y", "z"],
            "numbers": ["1", "2"], "dict": "x", "large": "x",
        },
        {},
    ]  # fmt: skip
    assert [one for one in found.warnings if "'f'" not in one and "'bytes'" not in one] == []
    assert len(found.warnings) == 2


def test_repeated_rows_unite_texts_and_keep_the_last_number(source: Source) -> None:
    found = source.read(
        "item_id,genre,price,released\na,x,1,2020-01-01\nb,x,9,\na,y,2,2021-01-01\na,x,,2019-01-01\nb,x,8,\n"
    )
    assert told(found)[:2] == [
        {"genre": ["x", "y"], "price": 2, "released": "2019-01-01T00:00:00.000Z"},
        {"genre": ["x"], "price": 8},
    ]


def kind_of(*values: Any, several_batches: bool = False) -> tuple[EncodedAttribute | None, list[str]]:
    """What a column of these values becomes."""
    column = AttributeColumn("n")
    parts = [[value] for value in values] if several_batches else [list(values)]
    for part in parts:
        array = np.empty(len(part), object)
        array[:] = part
        column.add(text_values(array), np.arange(len(part), dtype=np.int32))
    return column.finish()


@pytest.mark.parametrize("several_batches", [False, True])
@pytest.mark.parametrize(
    ("values", "kind", "known"),
    [
        (["1", "2.5", "-3e2"], "number", [1, 2.5, -300]),
        ([1, "2", 2.5, np.float32(0.5), Decimal("7.50")], "number", [1, 2, 2.5, 0.5, 7.5]),
        ([1.0, None, float("nan"), pd.NA], "number", [1]),
        (["1", "two"], "text", ["1", "two"]),
        (["1", "nan"], "text", ["1", "nan"]),
        (["1", "1e999"], "text", ["1", "1e999"]),
        (["1", "1_000"], "text", ["1", "1_000"]),
        (["1|2"], "text", ["1", "2"]),
        ([[1, 2], [3]], "text", ["1", "2", "3"]),
        ([True, False], "text", ["false", "true"]),
        ([True, 1], "text", ["1", "true"]),
        ([1.0, "x"], "text", ["1", "x"]),
        (["12345678901234567890", "5"], "text", ["12345678901234567890", "5"]),
        ([9007199254740993], "text", ["9007199254740993"]),
        (["01234", "90210"], "text", ["01234", "90210"]),
        (["0", "0.5", "-0.25"], "number", [0, 0.5, -0.25]),
        ([123456789012345], "number", [123456789012345]),
        (["2020-01-01", "2020-01-01T12:00:00+02:00"], "time", [1577836800, 1577872800]),
        ([date(2020, 1, 1), datetime(2020, 1, 1, 10, tzinfo=UTC)], "time", [1577836800, 1577872800]),
        ([pd.Timestamp("2020-01-01"), pd.NaT, None], "time", [1577836800]),
        (["2020-01-01", "5"], "text", ["2020-01-01", "5"]),
        (["2020-01-01", "soon"], "text", ["2020-01-01", "soon"]),
        (["2020-02-30"], "text", ["2020-02-30"]),
        (["x" * 256, "y" * 257], "text", ["x" * 256]),
        ([" spaces ", "", "  "], "text", ["spaces"]),
        (["ä", "\ud800"], "text", ["ä"]),
        (["x", b"x", {"y": 1}, [["x"]]], "text", ["x"]),
        ([10**5000, "x"], "text", ["x"]),
    ],
    ids=lambda value: ascii(value)[:40] if not isinstance(value, list) else "",
)
def test_the_kind_of_a_column_is_that_of_all_its_values(
    values: list[Any], kind: str, known: list[Any], several_batches: bool
) -> None:
    found, _ = kind_of(*values, several_batches=several_batches)
    assert found is not None
    assert found.kind == kind
    held = sorted(found.texts if found.numbers is None else found.numbers.tolist())
    assert held == sorted(known)


def test_a_column_without_values_is_no_attribute() -> None:
    assert kind_of(None, "", " | ", float("nan")) == (None, [])


def test_what_is_left_out_of_a_column_is_told() -> None:
    assert kind_of("x" * 300, "y", "x" * 300, b"x")[1] == [
        "2 values of the attribute 'n' are longer than 256 characters and were left out.",
        "1 values of the attribute 'n' are not a text, number, time or list of these, and were left out.",
    ]
    mostly = [str(number) for number in range(20)]
    assert kind_of(*mostly, "n/a")[1] == [
        "The attribute 'n' is text because of values such as 'n/a': almost all others are numbers or times."
    ]
    assert kind_of(*mostly)[1] == kind_of(*mostly, *"abcde")[1] == []


@pytest.mark.parametrize("odd", [0, 1, 1234, 2999])
def test_one_odd_value_among_thousands_makes_text(odd: int) -> None:
    numbers = [str(number) for number in range(3000)]
    days = [f"{year}-01-{day:02}" for year in range(1900, 2000) for day in range(1, 31)]
    for values, kind in ((numbers, "number"), (days, "time")):
        found, warnings = kind_of(*values)
        assert (found and found.kind, warnings) == (kind, [])
        found, warnings = kind_of(*values[:odd], "n/a", *values[odd + 1 :])
        assert found is not None and found.kind == "text" and "such as 'n/a'" in warnings[0]
    found, warnings = kind_of(*(f"title {number}" for number in numbers), "5")
    assert (found and found.kind, warnings) == ("text", [])


def test_text_in_a_dictionary_counts_as_often_as_it_occurs() -> None:
    values = pa.array(["a|b", "x" * 300, "c", None, "d"])
    column = pa.DictionaryArray.from_arrays(pa.array([2, 0, None, 1, 0, 1, 3], pa.int8()), values)
    found = text_values(column)
    pairs = list(zip(found.rows.tolist(), found.texts.take(pa.array(found.codes)).to_pylist(), strict=True))
    assert pairs == [(0, "c"), (1, "a"), (1, "b"), (4, "a"), (4, "b")]
    assert (found.multivalued.tolist(), found.too_long.tolist()) == ([1, 4], [3, 5])


def test_text_that_is_not_utf8_is_left_out() -> None:
    binary = pa.array([b"x", b"\xff", b"y|\xc3\xa4"])
    text = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
    found = text_values(text)
    assert found.texts.take(pa.array(found.codes)).to_pylist() == ["x", "y", "ä"]
    assert (found.rows.tolist(), found.unsupported.tolist()) == ([0, 2, 2], [1])


def test_rows_without_an_id_are_counted(source: Source) -> None:
    found = source.read("item_id,genre\na,x\n,y\n" + "i" * 300 + ",y\n,y\nb,y,too many\n")
    assert found.report is not None
    assert found.report.rejected == {
        "the row has more fields than the header": 1, "item_id is empty": 2,
        "item_id is longer than 256 characters": 1
    }  # fmt: skip
    assert found.report.examples["item_id is empty"] == "item_id=''"
    assert (found.report.rows_read, found.report.rows_kept) == (5, 1)
    (warning,) = found.warnings
    assert warning.startswith("4 of 5 rows of the item features were left out (")
    assert told(found) == [{"genre": "x"}, {}, {}, {}]


def test_names_that_no_condition_could_name(source: Source) -> None:
    names = ["a=b", "c|d", "e:f", "n" * 101, "n" * 100, "fine name"]
    found = source.read(f"item_id,{','.join(names)}\na,1,2,3,4,5,6\n")
    assert list(kinds(found)) == ["n" * 100, "fine name"]
    (warning,) = found.warnings
    assert all(name in warning for name in ("'a=b'", "'c|d'", "'e:f'")) and "'fine name'" not in warning


def test_no_more_attributes_than_there_may_be(source: Source) -> None:
    names = [f"n{number}" for number in range(MAX_ATTRIBUTES + 3)]
    found = source.read(f"{','.join(names)},item_id\n{'1,' * len(names)}a\n")
    assert list(kinds(found)) == names[:MAX_ATTRIBUTES]
    assert found.warnings == ["Items have at most 32 attributes: 'n32', 'n33', 'n34' were left out."]


def test_columns_that_are_there_twice(source: Source) -> None:
    found = source.read("item_id,genre,genre,price\na,x,y,1\n")
    assert list(kinds(found)) == ["price"]
    assert found.warnings == ["'genre' occur twice and were left out: rename them in the source."]


def test_features_of_other_items_only(source: Source) -> None:
    found = source.read("item_id,genre\n1,x\n")
    assert found.attributes is None
    assert [one.partition(":")[0] for one in found.warnings] == [
        "No row of the item features is about an item of the interactions",
        "The item features have no attributes",
    ]


WHOSE = "The item features (data chef 'films') cannot be used: "


@pytest.mark.parametrize(
    ("text", "more", "sentence"),
    [
        ("movieId,genre\n1,x\n", {}, "There is no column item_id; found 'movieId', 'genre': add"),
        ("movieId,genre\n", {}, "There is no column item_id; found 'movieId', 'genre'"),
        ("item_id,item_id,x\n1,2,3\n", {}, "The column 'item_id' occurs twice"),
        ("item_id,genre\n", {}, "The source holds no rows"),
        ("item_id,genre\n,x\n,y\n", {}, "None of the 2 rows has a usable item_id (item_id is empty: 2, such as"),
        ("", {}, ""),
        ("item_id\na\n", {"path": "missing.csv"}, ""),
        ("item_id\na\n", {"path": "../../secret"}, ""),
        ("item_id\na\n", {"rename_columns": 5}, "The data chef cannot be used: rename_columns"),
        ("item_id\na\n", {"type": "nonsense"}, ""),
        ("item_id\na\n", {"path": "${UNSET_FOLDER}/x.csv"}, ""),
    ],
)  # fmt: skip
def test_item_features_that_cannot_be_used(tmp_path: Path, text: str, more: dict[str, Any], sentence: str) -> None:
    (tmp_path / "films.csv").write_text(text)
    with pytest.raises(SourceFailed) as caught:
        collect_features(job(tmp_path, {"type": "csv", "path": "films.csv"} | more), ITEMS, lambda _: None)
    assert str(caught.value).startswith(WHOSE + sentence)


class Scripted:
    """A chef of batches; the first reading breaks off in the middle."""

    asked: list[object]

    def __init__(self, *batches: Batch) -> None:
        self._batches, self.asked = batches, []

    def __call__(self, entry: object, policy: object) -> Scripted:
        return self

    def warnings(self) -> list[str]:
        return []

    def batches(self, wanted: object) -> Iterator[Batch]:
        self.asked.append(wanted)
        for batch in self._batches:
            yield batch
            if len(self.asked) == 1:
                raise RestartRead


def test_batches_that_change_their_kind_and_start_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = np.array(["b", 7, None], object)
    chef = Scripted(
        Batch(("item_id", "x"), {"item_id": pa.array(["a", "b"]), "x": pa.array([1, 2])}, hints=("A hint.",)),
        Batch(("item_id", "x", "y"), {"item_id": objects, "x": objects, "y": objects}),
        Batch(("item_id", "x"), {"x": np.array([3.5])}, rejected=(Rejection("is torn", 2, "torn"),)),
        Batch(("item_id", "x"), {}),
    )
    monkeypatch.setattr("recserver._internal.training.ingest.source_reader.load_chef_class", lambda _: chef)
    rows: list[int] = []
    found = collect_features(job(tmp_path, {"type": "scripted"}), [*ITEMS[:3], "7"], rows.append)
    assert chef.asked == [None, None]
    assert rows == [2, 2, 5, 8, 8]
    assert told(found) == [{"x": ["1"]}, {"x": ["2", "b"], "y": "b"}, {}, {"x": ["7"], "y": "7"}]
    assert found.report is not None
    assert found.report.rejected == {"item_id is missing": 2, "the row is torn": 2}
    assert found.warnings[0] == "Of the item features: A hint."


def test_secrets_that_the_source_repeats_are_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hush-hush-hush"
    columns = {"item_id": pa.array(["a", ""]), secret: pa.array(["x", "y"])}
    torn = Rejection("is torn", 1, f"token={secret}")
    chef = Scripted(Batch(tuple(columns), columns, rejected=(torn,), hints=(f"Look at {secret}.",)))
    chef.asked.append("before")
    monkeypatch.setattr("recserver._internal.training.ingest.source_reader.load_chef_class", lambda _: chef)
    entry = {"type": "api", "auth": {"type": "bearer", "token": secret}}
    found = collect_features(job(tmp_path, entry), ITEMS, lambda _: None)
    assert found.report is not None and found.warnings
    assert secret not in found.report.model_dump_json() + " ".join(found.warnings)


ROWS = "user_id,item_id\n" + "".join(f"u{user},{item}\n" for user in range(4) for item in ITEMS[: 2 + user % 3])


def trained(folder: Path, features: str | None, **more: Any) -> TrainingResult:
    (folder / "rows.csv").write_text(ROWS)
    (folder / "packed").unlink(missing_ok=True)
    entry = None
    if features is not None:
        (folder / "films.csv").write_text(features)
        entry = {"type": "csv", "path": "films.csv"}
    return train(job(folder, entry, **more), lambda _: None)


def test_a_training_stores_the_attributes_and_says_so(tmp_path: Path) -> None:
    result = trained(tmp_path, "item_id,genre\na,x\nb,x|y\n,z\n")
    assert result.final_stats["has_item_features"] is result.model_metrics["has_item_features"] is True
    assert result.data_report is not None and result.data_report.item_features is not None
    assert result.data_report.item_features.attributes == {"genre": "text"}
    assert "features" in result.data_report.seconds
    assert "1 of 3 rows of the item features were left out (item_id is empty: 1)." in result.warnings
    recommender = Recommender.from_artifact(load(tmp_path / "packed"))
    assert require_attributes(recommender.attributes).item_values(1) == {"genre": ["x", "y"]}


@pytest.mark.parametrize("features", [None, "item_id,genre\nz,x\n"], ids=["no item features", "of other items"])
def test_a_training_without_attributes_says_so(tmp_path: Path, features: str | None) -> None:
    result = trained(tmp_path, features)
    assert result.final_stats["has_item_features"] is False
    assert not result.model_metrics.get("has_item_features")
    assert Recommender.from_artifact(load(tmp_path / "packed")).attributes is None
    if features is None:
        assert result.data_report is not None and "item_features" not in result.data_report.model_dump()


def test_other_attributes_are_something_new(tmp_path: Path) -> None:
    texts = [
        None, "item_id,genre\na,x\n", "item_id,genre\na,y\n", "item_id,genre\nb,x\n", "item_id,kind\na,x\n",
        "item_id,genre\na,1\n", "item_id,genre\na,2\n", "item_id,genre\na,x|y\n",
    ]  # fmt: skip
    digests = [trained(tmp_path, text).digest for text in texts]
    assert len(set(digests)) == len(texts)
    assert trained(tmp_path, "item_id,genre\nz,1\n").digest == digests[0]
    with pytest.raises(SourceUnchanged) as caught:
        trained(tmp_path, "item_id,genre\nz,w\na,y\na,y\n", previous_digest=digests[2])
    assert caught.value.data_report is not None
    assert caught.value.data_report["item_features"]["rows_read"] == 3
    assert trained(tmp_path, texts[1], previous_digest=digests[2]).digest == digests[1]


def test_a_failure_tells_what_was_read_of_the_interactions(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="The item features") as caught:
        trained(tmp_path, "movieId\n1\n")
    assert caught.value.data_report is not None
    assert caught.value.data_report["rows_read"] == ROWS.count("\n") - 1
    assert not (tmp_path / "packed").exists()


def test_progress_counts_the_rows_of_both(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "films.csv").write_text("item_id,genre\na,x\nb,x\n")
    seen: list[Progress] = []
    train(job(tmp_path, {"type": "csv", "path": "films.csv"}), seen.append)
    n_rows = ROWS.count("\n") - 1
    assert max(one.rows_read for one in seen if one.stage == "reading") == n_rows + 2


def test_movielens(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "ml-latest-small"
    ids = pd.read_csv(folder / "ratings.csv", dtype=str)["movieId"].unique()
    movies = pd.read_csv(folder / "movies.csv", dtype=str).set_index("movieId")
    items = sorted(ids)
    entry = {"type": "csv", "path": str(folder / "movies.csv"), "rename_columns": "movieId->item_id,genres->genre"}
    made = job(tmp_path, entry).model_copy(update={"policy": SourcePolicy(data_dir=tmp_path, csv_roots=(folder,))})
    found = collect_features(made, items, lambda _: None)
    assert found.attributes is not None and found.warnings == []
    attributes = require_attributes(
        Attributes.from_arrays({"attributes": found.attributes.header}, found.attributes.arrays, len(items))
    )
    genres = movies["genres"].reindex(items).fillna("").str.split("|")
    for genre in ("Comedy", "Film-Noir", "(no genres listed)"):
        expected = [genre in one for one in genres]
        assert any(expected)
        assert attributes.mask(parse_condition(f"genre={genre}")).tolist() == expected
