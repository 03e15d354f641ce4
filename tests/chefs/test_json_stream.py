"""Rows are found in every JSON layout, for chunks of any size."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recserver._internal.chefs.rest.json_stream import MAX_LIST_VALUES, JsonRowParser
from recserver._internal.core.errors import SourceFailed

ROWS = [{"user_id": "u1", "item_id": 7, "rating": 4.5}, {"user_id": "ü", "item_id": None, "rating": True}]
REQUESTED = ("user_id", "item_id", "rating")


def read(
    data: bytes, step: int = 2**20, requested: tuple[str, ...] = REQUESTED
) -> tuple[list[dict[str, Any]], JsonRowParser]:
    reader = JsonRowParser(requested, "The source")
    rows: list[dict[str, Any]] = []
    for start in range(0, len(data), step):
        rows += reader.feed(data[start : start + step])
    rows += reader.close()
    assert reader.n_rows == len(rows)
    return rows, reader


def lines(rows: list[Any], **options: Any) -> bytes:
    return b"\n".join(json.dumps(row, **options).encode() for row in rows)


LAYOUTS = {
    "array": json.dumps(ROWS).encode(),
    "indented": json.dumps(ROWS, indent=4, ensure_ascii=False).encode(),
    "lines": lines(ROWS),
    "indented lines": lines(ROWS, indent=2) + b"\n\n",
    "byte order mark": b"\xef\xbb\xbf  \n" + json.dumps(ROWS).encode(),
    "items": json.dumps({"total": 2, "meta": {"items": [{"x": 1}]}, "items": ROWS, "has_next": False}).encode(),
    "data": json.dumps({"data": ROWS}, indent=1).encode(),
    "results": json.dumps({"next": None, "results": ROWS, "facets": [{"user_id": "no"}]}).encode(),
    "the first of two": json.dumps({"results": [], "data": ROWS, "items": [{"user_id": "no"}]}).encode(),
    "wrapped lines": lines([{"items": ROWS[:1]}, {"items": ROWS[1:]}]),
    "two arrays": json.dumps(ROWS[:1]).encode() + json.dumps(ROWS[1:]).encode(),
}


@pytest.mark.parametrize("step", [1, 3, 2**20])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(layout: str, step: int) -> None:
    rows, reader = read(LAYOUTS[layout], step)
    assert rows == ROWS
    assert tuple(reader.column_names) == REQUESTED


def test_one_object_is_one_row() -> None:
    assert read(json.dumps(ROWS[0]).encode())[0] == ROWS[:1]


def test_an_object_with_lists_and_requested_columns_is_a_row() -> None:
    row = {"user_id": "u", "item_id": "i", "items": ["a", 1], "data": {"b": 1}, "results": [["c"]]}
    rows, reader = read(json.dumps(row).encode())
    assert rows == [{"user_id": "u", "item_id": "i"}]
    assert tuple(reader.column_names) == tuple(row)
    assert read(json.dumps({"user_id": "u", "items": []}).encode())[0] == [{"user_id": "u"}]


def test_only_requested_columns_are_kept_and_objects_become_empty_lists() -> None:
    content = [{"user_id": {"id": 1, "user_id": "x"}, "other": [{"item_id": 1}], "item_id": [1, [2]], "rating": 1}]
    rows, reader = read(json.dumps(content).encode())
    assert rows == [{"user_id": [], "item_id": [1], "rating": 1}]
    assert tuple(reader.column_names) == ("user_id", "other", "item_id", "rating")


@pytest.mark.parametrize(
    "text", ['[1, null, [2, [3]], [], {}, {"user_id": 1}]', '{"items": [{}, 1, "x", [1], {"user_id": 1}]}']
)
def test_elements_that_are_not_objects_are_counted(text: str) -> None:
    rows, reader = read(text.encode())
    assert rows == [{}, {"user_id": 1}]
    assert reader.n_non_objects in (3, 4)


def test_lists_in_rows_keep_their_scalar_values() -> None:
    content = [{"item_id": 1, "genre": ["a", 2.5, True, None], "o": {"genre": ["x"]}, "mix": [1, {"a": [2]}, 3]}]
    row = {"item_id": 1, "genre": ["a", 2.5, True, None], "o": [], "mix": [1]}
    for layout in (content, {"items": content}, content[0]):
        assert [one for part in (1, 5, 4096) for one in fed(layout, part)] == [row] * 3
    long = [{"genre": list(range(MAX_LIST_VALUES + 5))}]
    assert fed(long, 4096) == [{"genre": list(range(MAX_LIST_VALUES))}]


def fed(content: object, size: int) -> list[dict[str, Any]]:
    """All columns of the rows of a response that is fed in chunks of ``size`` bytes."""
    reader, data = JsonRowParser(None, "The source"), json.dumps(content).encode()
    parts = [reader.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return [row for rows in (*parts, reader.close()) for row in rows]


def test_numbers_keep_their_value() -> None:
    text = b'[{"user_id": 12345678901234567890123, "item_id": 7.0, "rating": 1e999}]'
    (row,) = read(text)[0]
    assert row == {"user_id": 12345678901234567890123, "item_id": 7.0, "rating": float("inf")}
    assert isinstance(row["item_id"], float)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ('{"items": [{}], "has_next": true}', True),
        ('{"has_next": false, "next": "/2", "items": [{}]}', False),
        ('{"items": [{}], "next": "/2"}', True),
        ('{"items": [{}], "next": {"href": "/2"}}', True),
        ('{"items": [{}], "next": null}', False),
        ('{"items": [], "next": ""}', False),
        ('{"items": [{}]}', None),
        ('[{"has_next": true}]', None),
        ('{"user_id": 1, "next": 5}', None),
    ],
)
def test_wrappers_determine_whether_more_pages_follow(text: str, more: bool | None) -> None:
    assert read(text.encode())[1].has_more is more


def test_empty_responses_have_no_rows() -> None:
    for text in (b"", b"  \n", b"\xef\xbb\xbf", b"x"[:0]):
        rows, reader = read(text)
        assert rows == []
        assert not reader.has_content
    for text in (b"[]", b'{"items": []}', b'{"data": [ ], "total": 0}'):
        rows, reader = read(text)
        assert rows == []
        assert reader.has_content


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"<!doctype html><p>secret", "HTML or XML"),
        (b"\n <html>", "HTML or XML"),
        (b"secret", "not valid JSON"),
        (b'[{"user_id": "secret"}', "incomplete"),
        (b'[{"user_id": "secret', "incomplete"),
        (b"{", "incomplete"),
        (b'{"user_id": NaN}', "not valid JSON"),
        (b"[1,]", "not valid JSON"),
        (b'[{"a": 1}] secret', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"\xff\xfe[\x00", "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'"secret"', "single value"),
        (b"42 ", "single value"),
        (b"1", "single value"),
        (b"tr", "incomplete|not valid"),
    ],
)
def test_invalid_responses_are_reported_without_quoting_them(data: bytes, sentence: str) -> None:
    for step in (1, 2**20):
        with pytest.raises(SourceFailed, match=sentence) as caught:
            read(data, step)
        assert "secret" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_deep_nesting_is_supported() -> None:
    rows, reader = read(b"[" * 100_000 + b"]" * 100_000)
    assert (rows, reader.n_non_objects) == ([], 1)
    with pytest.raises(SourceFailed):
        read(b'{"a":' * 100_000)
