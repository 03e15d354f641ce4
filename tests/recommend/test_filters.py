"""Conditions on the attributes of items in all their forms, and what is none."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from recserver._internal.recommend.filters import (
    MAX_CONDITIONS,
    MAX_VALUES,
    OPERATORS,
    Condition,
    Conditions,
    parse_condition,
    parse_conditions,
)

NAMES = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="<>=!*:|"), min_size=1, max_size=100
).filter(lambda name: name == name.strip())
VALUES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=200).filter(
    lambda value: value == value.strip()
)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("genre=Comedy", ("genre", "=", "Comedy")),
        ("genre!=Horror", ("genre", "!=", "Horror")),
        ("price<20", ("price", "<", "20")),
        ("price<=20", ("price", "<=", "20")),
        ("price>5", ("price", ">", "5")),
        ("price>=5", ("price", ">=", "5")),
        ("released>=2020-01-01", ("released", ">=", "2020-01-01")),
        ("  release date  >=  2020-01-01 ", ("release date", ">=", "2020-01-01")),
        ("title=a=b<c>d!=e", ("title", "=", "a=b<c>d!=e")),
        ("genre=Science Fiction", ("genre", "=", "Science Fiction")),
        ("genre=line\nbreak", ("genre", "=", "line\nbreak")),
        ({"attribute": "genre", "operator": "=", "value": "Comedy"}, ("genre", "=", "Comedy")),
        ({"attribute": " genre ", "value": " Comedy "}, ("genre", "=", "Comedy")),
        ({"attribute": "price", "operator": "<", "value": 20}, ("price", "<", "20")),
        ({"attribute": "price", "operator": "<", "value": 20.0}, ("price", "<", "20")),
        ({"attribute": "price", "operator": "<", "values": [0.1]}, ("price", "<", "0.1")),
        ({"attribute": "sale", "value": True}, ("sale", "=", "true")),
        ({"attribute": "g", "values": ["a", "b", "a"]}, ("g", "=", ("a", "b"))),
        ({"attribute": "g", "operator": "!=", "values": ["a", 1]}, ("g", "!=", ("a", "1"))),
    ],
    ids=repr,
)
def test_forms_of_conditions(given: Any, parts: tuple[Any, ...]) -> None:
    attribute, operator, values = parts
    condition = Condition(attribute, operator, (values,) if isinstance(values, str) else values)
    assert parse_condition(given) == condition
    assert parse_condition(condition) is condition


@given(NAMES, st.sampled_from(OPERATORS), VALUES)
def test_every_condition_is_read_as_it_was_written(name: str, operator: str, value: str) -> None:
    assume(operator + value[0] not in OPERATORS)  # "<" before "=5" is "<=" before "5"
    condition = Condition(name, operator, (value,))
    if value[0] in "=<>":
        with pytest.raises(ValueError, match="two operators"):
            parse_condition(str(condition))
    else:
        assert parse_condition(str(condition)) == condition
    assert parse_condition({"attribute": name, "operator": operator, "value": value}) == condition


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("", "'' is not a valid condition"),
        ("genre", "'genre' is not a valid condition: write it like genre=Comedy"),
        ("genre!Comedy", "is not a valid condition"),
        ("genre:Comedy", "is not a valid condition"),
        ("genre==Comedy", "'genre==Comedy' has two operators"),
        ("price=>5", "has two operators"),
        ("price<>20", "has two operators"),
        ("=Comedy", "must begin with the name"),
        ("  <5", "must begin with the name"),
        ("genre=", "'genre' must have a value"),
        ("genre!=  ", "'genre' must have a value"),
        ("ge|nre=x", "'ge|nre' is not a valid attribute name"),
        ("a:b=x", "is not a valid attribute name"),
        ("*=x", "is not a valid attribute name"),
        ("n" * 101 + "=x", "is not a valid attribute name"),
        ("genre=" + "x" * 257, "at most 256 characters"),
        ("genre=\ud800", "lone surrogates"),
        ("\ud800=x", "lone surrogates"),
        (5, "must be text or an object"),
        (None, "must be text or an object"),
        (["genre=x"], "must be text or an object"),
        ({}, "must name its attribute"),
        ({"attribute": 5, "value": "x"}, "must name its attribute"),
        ({"attribute": "g", "operator": "~", "value": "x"}, "must be one of = != < <= > >="),
        ({"attribute": "g", "operator": ["="], "value": "x"}, "must be one of"),
        ({"attribute": "g"}, "value or values"),
        ({"attribute": "g", "value": "x", "values": ["x"]}, "value or values"),
        ({"attribute": "g", "values": "x"}, "must be a list"),
        ({"attribute": "g", "values": {"x": 1}}, "must be a list"),
        ({"attribute": "g", "values": []}, f"1 to {MAX_VALUES} values"),
        ({"attribute": "g", "values": [str(n) for n in range(MAX_VALUES + 1)]}, f"1 to {MAX_VALUES} values"),
        ({"attribute": "g", "operator": "<", "values": [1, 2]}, "must have one value"),
        ({"attribute": "g", "value": None}, "must be text or a number"),
        ({"attribute": "g", "value": ["x"]}, "must be text or a number"),
        ({"attribute": "g", "value": float("nan")}, "must be text or a number"),
        ({"attribute": "g", "value": 10**300}, "must be text or a number"),
        ({"attribute": "g", "value": " "}, "must have a value"),
        ({"attribute": "g", "value": "x", "vale": 1}, "'vale' is not a key of a condition"),
        ({"attribute": "g=", "value": "x"}, "is not a valid attribute name"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_condition_is_told_in_one_sentence(given: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        parse_condition(given)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
    with pytest.raises(ValidationError, match=re.escape(sentence)):
        TypeAdapter(Conditions).validate_python([given])


def test_a_single_condition_is_a_list_of_one() -> None:
    one, other = Condition("g", "=", ("x",)), Condition("p", "<", ("5",))
    assert parse_conditions("g=x") == parse_conditions({"attribute": "g", "value": "x"}) == [one]
    assert parse_conditions(["g=x", {"attribute": "p", "operator": "<", "value": 5}]) == [one, other]
    assert TypeAdapter(Conditions).validate_python("g=x") == [one]
    assert parse_conditions([]) == []
    assert len(parse_conditions(["g=x"] * MAX_CONDITIONS)) == MAX_CONDITIONS


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["g=x"] * (MAX_CONDITIONS + 1), f"at most {MAX_CONDITIONS} conditions"),
        (5, "must be a list of conditions"),
        (None, "must be a list of conditions"),
        (["g=x", "nonsense"], "'nonsense' is not a valid condition"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_are_no_conditions(given: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(sentence)):
        TypeAdapter(Conditions).validate_python(given)
