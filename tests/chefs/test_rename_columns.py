"""The forms of ``rename_columns``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserver._internal.chefs.rename_columns import MAX_RENAMES, canonical_renames, parse_renames, renamed_columns

NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=","), min_size=1, max_size=20).filter(
    lambda name: name == name.strip() and "->" not in name
)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, ""),
        ("", ""),
        ({}, ""),
        ("a->b", "a->b"),
        (" a -> b , c : d ", "a->b,c->d"),
        ("a:b,c->d", "a->b,c->d"),
        ("a:b:c", "a->b:c"),
        ("a:b->c", "a:b->c"),
        ("http://x->y", "http://x->y"),
        ("user id->user_id", "user id->user_id"),
        ("a->b,b->a", "a->b,b->a"),
        ("a->a", "a->a"),
        ({"a": "b", " c ": " d "}, "a->b,c->d"),
        ({"a:b": "c"}, "a:b->c"),
        ("Größe->rating", "Größe->rating"),
    ],
)
def test_forms(given: object, text: str) -> None:
    assert canonical_renames(given) == text


@given(st.dictionaries(NAMES, NAMES, max_size=5))
def test_the_canonical_text_has_the_same_meaning(renames: dict[str, str]) -> None:
    if len(set(renames.values())) == len(renames):
        assert parse_renames(canonical_renames(renames)) == renames


@pytest.mark.parametrize(
    "given",
    [
        "a", ",", "a->b,", "->b", "a->", ":", "a->b->c", "a->x,b->x", "a->x,a->y", "a" * 257 + "->b", " ",
        {"a": ""}, {"": "a"}, {"a": None}, {"a": 1}, {"a,b": "c"}, {"a": "b,c"}, {"a->b": "c"}, {"a": "b->c"},
        {"a": "x", "b": "x"}, {"a ": "x", " a": "y"}, {"a": "\ud800"}, ["a->b"], 5, True, [["a", "b"]],
    ],
)  # fmt: skip
def test_invalid_forms(given: object) -> None:
    with pytest.raises(ValueError):
        parse_renames(given)


def test_the_number_of_renames_is_limited() -> None:
    most = {f"a{number}": f"b{number}" for number in range(MAX_RENAMES)}
    assert len(parse_renames(canonical_renames(most))) == MAX_RENAMES
    with pytest.raises(ValueError, match="more than"):
        parse_renames(most | {"one": "more"})
    with pytest.raises(ValueError, match="more than"):  # compared pair by pair, these would take hours
        parse_renames({f"a{number}": f"b{number}" for number in range(300_000)})


def test_a_renamed_column_replaces_one_of_its_name() -> None:
    assert renamed_columns(["user_id", "uid", "x"], {"uid": "user_id"}) == {"x": "x", "user_id": "uid"}
    assert renamed_columns(["user_id", "x"], {"uid": "user_id"}) == {"user_id": "user_id", "x": "x"}
    assert renamed_columns(["a", "b"], {"a": "b", "b": "a"}) == {"b": "a", "a": "b"}
