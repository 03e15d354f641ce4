"""Attributes of items: what is asked of them against a plain reckoning, and which model files are refused."""

from __future__ import annotations

import operator
import random
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recserver._internal.core.errors import UnreadableModel
from recserver._internal.recommend.filters import Condition, parse_condition
from recserver._internal.recommend.model.attribute_arrays import ARRAY_NAMES, MAX_TIME, MIN_TIME, Kind
from recserver._internal.recommend.model.item_attributes import Attributes, require_attributes
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.storage import model_file as artifact
from recserver._internal.storage.model_file.id_table import pack_ids

GENRES = ["Comedy", "Drama", "Horror", "Sci-Fi", "é"]
COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
DAY = 86_400.0

Item = dict[str, Any]


def some_items(seed: int, count: int = 60) -> list[Item]:
    """Items with up to three genres, and perhaps a label, a price and a time of release in seconds."""
    lot, items = random.Random(seed), []
    for number in range(count):
        item: Item = {"genre": sorted(lot.sample(GENRES, lot.randint(0, 3)))}
        if lot.random() < 0.8:
            item["label"] = [f"label {number % 7}"]
        if lot.random() < 0.7:
            item["price"] = lot.choice([-1.5, 0.0, 0.1, 5.0, 19.99, 20.0])
        if lot.random() < 0.7:
            item["released"] = lot.choice([-DAY, 0.0, 18_000 * DAY, 18_000 * DAY + 0.5])
        items.append(item)
    return items


def laid_out(items: list[Item]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Header and arrays of a model file with these items, made in the plainest way."""
    header: list[dict[str, Any]] = []
    terms: list[str] = []
    postings: list[list[int]] = []
    for name in ("genre", "label"):
        texts = sorted({text for item in items for text in item.get(name, [])}, key=str.encode)
        terms += texts
        postings += [[at for at, item in enumerate(items) if text in item.get(name, [])] for text in texts]
        header.append({"name": name, "kind": "text", "terms": len(texts), "several": name == "genre"})
    names = ("price", "released")
    header += [{"name": "price", "kind": "number"}, {"name": "released", "kind": "time"}]
    text, offsets = pack_ids(terms)
    indptr = np.cumsum([0, *map(len, postings)]).astype(np.int64)
    flat = np.array([at for one in postings for at in one], np.int32)
    numbers = np.array([[item.get(name, 7.0) for item in items] for name in names])
    known = np.array([[name in item for item in items] for name in names], np.uint8)
    return header, dict(zip(ARRAY_NAMES, (text, offsets, indptr, flat, numbers, known), strict=True))


def made(items: list[Item]) -> Attributes:
    header, arrays = laid_out(items)
    return require_attributes(Attributes.from_arrays({"attributes": header}, arrays, len(items)))


def seconds(text: str) -> float:
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


def fulfils(item: Item, condition: Condition) -> bool:
    """Whether an item fulfils a condition, reckoned from the item alone."""
    held = item.get(condition.attribute, [])
    values: list[Any] = list(condition.values)
    if condition.attribute in ("price", "released"):
        held = [held] if condition.attribute in item else []
        values = [(float if condition.attribute == "price" else seconds)(value) for value in values]
    if condition.operator in COMPARE:
        return any(COMPARE[condition.operator](one, values[0]) for one in held)
    return any(one in values for one in held) == (condition.operator == "=")


CONDITIONS = [
    *(f"genre{sign}{genre}" for sign in ("=", "!=") for genre in (*GENRES, "comedy", "Comed", "Western")),
    *(f"label{sign}label 3" for sign in ("=", "!=")),
    *(
        f"price{sign}{price}"
        for sign in ("=", "!=", *COMPARE)
        for price in ("-1.5", "0.1", "5", "20.0", "2e1", "7")
    ),
    *(
        f"released{sign}{moment}"
        for sign in ("=", "!=", *COMPARE)
        for moment in ("1969-12-31", "1970-01-01T00:00:00", "2019-04-14", "2019-04-14 00:00:00.5")
    ),
    {"attribute": "genre", "values": ["Horror", "Western", "é"]},
    {"attribute": "genre", "operator": "!=", "values": ["Horror", "Drama"]},
    {"attribute": "price", "values": [5, 20]},
    {"attribute": "price", "operator": "!=", "values": [5, 20]},
    {"attribute": "released", "values": ["1970-01-01", "2019-04-14"]},
]


@pytest.mark.parametrize("seed", range(5))
def test_masks_are_those_of_a_plain_reckoning(seed: int) -> None:
    items = some_items(seed)
    attributes = made(items)
    some = 0
    for one in CONDITIONS:
        condition = parse_condition(one)
        mask = attributes.mask(condition)
        assert (mask.dtype, mask.shape) == (np.bool_, (len(items),))
        assert mask.tolist() == [fulfils(item, condition) for item in items], one
        some += bool(mask.any() and not mask.all())
    assert some > len(CONDITIONS) // 2


def test_masks_may_be_written_to() -> None:
    attributes = made(some_items(1))
    for one in ("genre=Comedy", "genre=Western", "price=5", "price!=5", "price<5"):
        before = attributes.mask(parse_condition(one)).copy()
        attributes.mask(parse_condition(one))[:] = True
        assert (attributes.mask(parse_condition(one)) == before).all()


def test_times_with_a_zone_are_compared_in_utc() -> None:
    attributes = made([{"released": 0.0}, {"released": 3600.0}])
    assert attributes.mask(parse_condition("released=1970-01-01T02:00:00+01:00")).tolist() == [False, True]
    assert attributes.mask(parse_condition("released<1970-01-01T01:00:00Z")).tolist() == [True, False]


@pytest.mark.parametrize("seed", range(3))
def test_values_by_item_and_what_is_known_of_each(seed: int) -> None:
    items = some_items(seed)
    attributes = made(items)
    assert attributes.names == ("genre", "label", "price", "released")
    kinds = [attribute.kind for attribute in attributes.by_name.values()]
    assert kinds == [Kind.TEXT, Kind.TEXT, Kind.NUMBER, Kind.TIME]
    for name in attributes.names:
        held = [item.get(name, []) for item in items]
        lists = [one if isinstance(one, list) else [one] for one in held]
        order = sorted({value for one in lists for value in one})
        indptr, codes = attributes.values_of(name)
        assert (indptr.dtype, codes.dtype) == (np.int64, np.int32)
        rows = [codes[start:stop].tolist() for start, stop in pairwise(indptr)]
        assert rows == [[order.index(value) for value in one] for one in lists]
        assert attributes.values_of(name)[1] is codes
        with pytest.raises(ValueError, match="read-only"):
            codes[:] = 0
    for place, item in enumerate(items):
        told = {name: value for name, value in item.items() if value != []}
        if "label" in told:
            told["label"] = told["label"][0]
        if "released" in told:
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=told["released"])
            told["released"] = moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
        assert attributes.item_values(place) == told
        price = attributes.item_values(place).get("price", 0)
        assert isinstance(price, int) == float(price).is_integer()


def test_the_first_and_the_last_moment_can_be_told() -> None:
    attributes = made([{"released": MIN_TIME}, {"released": MAX_TIME}])
    told = [attributes.item_values(place)["released"] for place in (0, 1)]
    assert told == ["0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.000Z"]
    assert attributes.mask(parse_condition("released>=9999-12-31")).tolist() == [False, True]


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("gender=x", "no attribute 'gender' of items: it knows genre, label, price, released"),
        ("genre<5", "'genre' is text, which < does not compare"),
        ("label>=a", "'label' is text, which >= does not compare"),
        ("price=cheap", "'cheap' is no value of 'price', which is a number"),
        ("price<nan", "'nan' is no value of 'price'"),
        ("price<1e999", "'1e999' is no value of 'price'"),
        ("price<1_000", "'1_000' is no value of 'price'"),
        ("price=2020-01-01", "is no value of 'price'"),
        ("released<yesterday", "'yesterday' is no value of 'released', which is a time"),
        ("released<5", "'5' is no value of 'released', which is a time"),
        ("released=0000-01-01", "is no value of 'released', which is a time"),
        ({"attribute": "price", "values": [5, "x"]}, "'x' is no value of 'price'"),
    ],
    ids=repr,
)
def test_conditions_that_the_model_cannot_judge(condition: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        made(some_items(0)).mask(parse_condition(condition))


def test_who_has_no_attributes_is_told_how_to_get_some() -> None:
    with pytest.raises(ValueError, match="item_features_data_chef_id"):
        require_attributes(None)
    with pytest.raises(ValueError, match="it knows genre"):
        made(some_items(0)).values_of("x")


def model(path: Path, header: Any, arrays: dict[str, Any], n_items: int) -> Path:
    """A model file with these attributes."""
    user_text, user_offsets = pack_ids(["u"])
    item_text, item_offsets = pack_ids([f"i{number:03}" for number in range(n_items)])
    usual = {
        "user_text": user_text, "user_offsets": user_offsets, "item_text": item_text, "item_offsets": item_offsets,
        "user_factors": np.ones((1, 2), np.float32), "item_factors": np.ones((2, n_items), np.float32),
        "seen_indptr": np.array([0, 1], np.int64), "seen_indices": np.array([0], np.int32),
        "item_counts": np.ones(n_items, np.int64),
    }  # fmt: skip
    about = {"model_version": 1} if header is None else {"model_version": 1, "attributes": header}
    artifact.pack(path, about, usual | {name: one for name, one in arrays.items() if one is not None})
    return path


def test_a_model_file_brings_its_attributes(tmp_path: Path) -> None:
    items = some_items(2)
    found = artifact.load(model(tmp_path / "m", *laid_out(items), len(items)))
    attributes = require_attributes(Recommender.from_artifact(found).attributes)
    assert attributes.item_values(7) == made(items).item_values(7)
    for one in ("genre=Comedy", "price<5", "released>1970-01-01"):
        assert (attributes.mask(parse_condition(one)) == made(items).mask(parse_condition(one))).all()
    without = artifact.load(model(tmp_path / "without", None, {}, 3))
    assert Recommender.from_artifact(without).attributes is None


@pytest.mark.parametrize("missing", [("genre", "label"), ("price", "released")], ids=["no texts", "no numbers"])
def test_attributes_of_one_sort_only(tmp_path: Path, missing: tuple[str, str]) -> None:
    items = [{name: value for name, value in item.items() if name not in missing} for item in some_items(3)]
    header, arrays = laid_out(items)
    header = [one for one in header if one["name"] not in missing]
    if missing[0] == "price":
        arrays |= {"attribute_numbers": np.zeros((0, 60)), "attribute_known": np.zeros((0, 60), np.uint8)}
    found = artifact.load(model(tmp_path / "m", header, arrays, len(items)))
    attributes = require_attributes(Recommender.from_artifact(found).attributes)
    assert attributes.names == tuple(one["name"] for one in header)
    told = [attributes.item_values(place) for place in range(60)]
    assert any(told) and not any(name in one for one in told for name in missing)


def changed(name: str, change: Any) -> Any:
    """Sound attributes of ten items but for one array (None leaves it out), or for the header."""
    header, arrays = laid_out(some_items(4, 10))
    if name == "header":
        return change(header), arrays
    array = None if change is None else arrays[name].copy()
    return header, arrays | {name: array if array is None else change(array)}


def put(place: Any, value: Any) -> Any:
    def change(array: Any) -> Any:
        array[place] = value
        return array

    return change


DAMAGE: list[tuple[str, Any]] = [
    *((name, None) for name in ARRAY_NAMES),
    ("attribute_text", lambda text: text[:-1]),
    ("attribute_text", put(0, 0xFF)),
    ("attribute_text", put(0, ord("Z"))),  # no longer ascending
    ("attribute_text", lambda text: text.astype(np.uint32)),
    ("attribute_offsets", put(0, 1)),
    ("attribute_offsets", put(2, -1)),
    ("attribute_offsets", put(1, 2**62)),
    ("attribute_offsets", put(-1, 10**6)),
    ("attribute_offsets", lambda offsets: offsets[:-1]),
    ("attribute_offsets", lambda offsets: offsets[:0]),
    ("attribute_offsets", lambda offsets: offsets.astype(np.int32)),
    ("attribute_indptr", put(0, 1)),
    ("attribute_indptr", put(1, 10**6)),
    ("attribute_indptr", put(1, -(2**63))),
    ("attribute_indptr", put(-1, 10**6)),
    ("attribute_indptr", lambda indptr: indptr[:-1]),
    ("attribute_indptr", lambda indptr: indptr.reshape(1, -1)),
    ("attribute_items", put(0, 10)),
    ("attribute_items", put(0, -1)),
    ("attribute_items", lambda items: items[::-1].copy()),
    ("attribute_items", lambda items: items[:-1]),
    ("attribute_items", lambda items: items.astype(np.int64)),
    ("attribute_numbers", lambda numbers: numbers[:1]),
    ("attribute_numbers", lambda numbers: numbers[:, :-1]),
    ("attribute_numbers", lambda numbers: numbers.astype(np.float32)),
    ("attribute_numbers", lambda numbers: numbers.reshape(-1)),
    ("attribute_numbers", put(1, MAX_TIME + 1)),
    ("attribute_numbers", put(1, MIN_TIME - 1)),
    ("attribute_known", put((0, 0), 2)),
    ("attribute_known", lambda known: known[:, :-1]),
    ("attribute_known", lambda known: known.astype(np.int32)),
    ("header", lambda header: {}),
    ("header", lambda header: []),
    ("header", lambda header: header[:-1]),
    ("header", lambda header: header[1:]),
    ("header", lambda header: [*header, header[0]]),
    ("header", lambda header: [*header, header[-1]]),
    ("header", lambda header: [*header, "genre"]),
    ("header", lambda header: [header[0] | {"terms": -1}, *header[1:]]),
    ("header", lambda header: [header[0] | {"terms": 10**30}, *header[1:]]),
    ("header", lambda header: [header[0] | {"terms": "5"}, *header[1:]]),
    ("header", lambda header: [header[0] | {"several": 1}, *header[1:]]),
    ("header", lambda header: [header[0] | {"kind": "colour"}, *header[1:]]),
    ("header", lambda header: [header[0] | {"name": "a=b"}, *header[1:]]),
    ("header", lambda header: [header[0] | {"name": ""}, *header[1:]]),
    ("header", lambda header: [header[0] | {"name": 5}, *header[1:]]),
    ("header", lambda header: [header[0] | {"name": "price"}, *header[1:]]),
    ("header", lambda header: [*header, *(header[0] | {"name": f"t{n}", "terms": 0} for n in range(40))]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change"), DAMAGE)
def test_damaged_attributes_are_refused_when_the_file_is_opened(tmp_path: Path, name: str, change: Any) -> None:
    found = artifact.load(model(tmp_path / "m", *changed(name, change), 10))
    with pytest.raises(UnreadableModel, match="train the model again"):
        Recommender.from_artifact(found)


def test_numbers_that_are_not_finite_are_in_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        model(tmp_path / "m", *changed("attribute_numbers", put((0, 0), np.nan)), 10)


def test_what_was_checked_before_is_not_looked_at_again(tmp_path: Path) -> None:
    path = model(tmp_path / "m", *changed("attribute_items", put(0, 10)), 10)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    found = artifact.reader.parse(content, "m", sha256="0" * 64)
    assert Recommender.from_artifact(found).attributes is not None
