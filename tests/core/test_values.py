"""Ids, numbers, switches and intervals, as requests and files write them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from recserver._internal.core.errors import TaskExists
from recserver._internal.core.validation.values import (
    JsonObject,
    Text,
    check_new_id,
    check_new_model_id,
    entity_id,
    interval_seconds,
    parse_bool,
    real_number,
    require_new,
    whole_number,
)


@given(st.text(max_size=8) | st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,120}\Z"))
def test_what_may_be_an_id_is_a_plain_file_name(text: str) -> None:
    try:
        assert check_new_id(text) == text
    except ValueError as error:
        assert str(error)
    else:
        assert text.isascii() and text.isprintable() and 1 <= len(text) <= 100
        assert not set(text) & set("/\\: \n~$*?\"'<>|") and ".." not in text
        assert text[0].isalnum() and not text.endswith(".")


@pytest.mark.parametrize(
    "value", ["a\n", "CON", "con.txt", "lpt9.a.b", "a.", "a..b", "é", "a" * 101, "", 1, None, b"a"]
)
def test_what_may_not(value: object) -> None:
    with pytest.raises(ValueError):
        check_new_id(value)


@pytest.mark.parametrize("value", ["a_config", "A_METADATA", "_config", "x.y_CONFIG"])
def test_endings_of_a_models_files(value: str) -> None:
    with pytest.raises(ValueError):
        check_new_model_id(value)


@pytest.mark.parametrize("value", ["console", "a" * 100, "com10", "nul_", "a_config2", "0", "A-1.b_c"])
def test_unusual_but_valid_ids(value: str) -> None:
    assert check_new_model_id(value) == value


def test_ids_that_differ_in_case_are_the_same() -> None:
    assert require_new(TaskExists, "Task", "b", ["a"], overwrite=False) is False
    assert require_new(TaskExists, "Task", "a", ["a"], overwrite=True) is True
    for wanted, known, overwrite in (("a", "a", False), ("A", "a", False), ("A", "a", True)):
        with pytest.raises(TaskExists) as refused:
            require_new(TaskExists, "Task", wanted, [known], overwrite)
        assert ("overwrite" in str(refused.value)) == (wanted == known)


@given(st.integers(0, 10**20 - 1))
def test_whole_numbers(number: int) -> None:
    assert whole_number(number) == whole_number(str(number)) == number
    if number <= 2**53:
        assert whole_number(float(number)) == number


@pytest.mark.parametrize(
    "value",
    [True, None, 1.5, math.nan, math.inf, "", "+1", "-1", " 1", "1_0", "1e3", "1.0", "\uff11", "0x1", "1\n", [1]],
)
def test_no_whole_numbers(value: object) -> None:
    with pytest.raises(ValueError):
        whole_number(value)


@pytest.mark.parametrize("value", [True, None, "1", math.nan, math.inf, -math.inf, 10**400, [1]])
def test_no_real_numbers(value: object) -> None:
    with pytest.raises(ValueError):
        real_number(value)


@pytest.mark.parametrize(("value", "seconds"), [(1, 1), (1.0, 1), (1.5, 1.5), (3600, 3600), (31622400, 31622400)])
def test_intervals(value: float, seconds: float) -> None:
    assert interval_seconds(value) == seconds
    assert isinstance(interval_seconds(value), type(seconds))  # whole seconds are written without a fraction


@pytest.mark.parametrize(
    "value", [0, -0.0, 0.999, math.nextafter(1, 0), 31622401, 31622400.1, 5e-324, "60", False]
)
def test_no_intervals(value: object) -> None:
    with pytest.raises(ValueError):
        interval_seconds(value)


@pytest.mark.parametrize(("value", "on"), [(True, True), ("TRUE", True), ("1", True), ("False", False)])
def test_switches(value: object, on: bool) -> None:
    assert parse_bool(value) is on


@pytest.mark.parametrize("value", ["", "yes", "on", "01", 1, 0, None, "true "])
def test_no_switches(value: object) -> None:
    with pytest.raises(ValueError):
        parse_bool(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a b", "a b"), (42, "42"), (42.0, "42"), (1.5, "1.5"), (-0.0, "0"), ("007", "007"), (" ", " ")],
)
def test_entity_ids(value: object, text: str) -> None:
    assert entity_id(value) == text


@pytest.mark.parametrize("value", ["", "a" * 257, 10**256, True, None, math.nan, math.inf, [], {}, b"a", "\ud800"])
def test_no_entity_ids(value: object) -> None:
    with pytest.raises(ValueError):
        entity_id(value)


@given(st.text(st.characters(exclude_categories=()), max_size=5))
def test_text_can_be_written(text: str) -> None:
    try:
        assert TypeAdapter(Text).validate_python(text) == text
    except ValidationError:
        assert any("\ud800" <= letter <= "\udfff" for letter in text)
    else:
        assert text.encode().decode() == text


@pytest.mark.parametrize(
    "value",
    [None, [], "x", {"a": math.inf}, {"a": [math.nan]}, {"a": {"b": "\ud800"}}, {"\ud800": 1}, {"a": object()},
     {"a": b""}, {1: {2: (3,)}}],
)  # fmt: skip
def test_no_plain_objects(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(JsonObject).validate_python(value)


def test_plain_objects_are_not_nested_deeply() -> None:
    def nested(depth: int) -> dict[str, Any]:
        return {"a": nested(depth - 1)} if depth > 1 else {"a": [1, "x", None, True, 2.5]}

    plain = TypeAdapter(JsonObject)
    assert plain.validate_python(nested(6)) == nested(6)
    with pytest.raises(ValidationError, match="nested"):
        plain.validate_python(nested(7))
