"""What a request may wish: the forms that are read, and everything else that is refused in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from recserver._internal.core.validation.values import parse_offset
from recserver._internal.recommend.filters import Condition
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import (
    MAX_BOOST,
    MAX_BOOSTS,
    MAX_IDS,
    MAX_QUOTAS,
    MAX_RATING,
    Boost,
    Boosts,
    Interaction,
    Interactions,
    ItemIds,
    MaxPer,
    MaxPers,
    RankOptions,
    UserIds,
    UserOptions,
    fraction,
    list_of,
    non_negative_number,
    parse_boost,
    parse_interaction,
    parse_max_per,
)

COMEDY = Condition("genre", "=", ("Comedy",))
NO_NUMBERS: list[Any] = [
    None,
    True,
    False,
    math.nan,
    math.inf,
    -math.inf,
    [],
    [1],
    {},
    b"1",
    "",
    " 1",
    1j,
    object(),
]
NO_RATINGS: list[Any] = ["5", True, [], {}, math.nan, math.inf, 1e9 + 1, -1.1e9, 10**400]
NO_TEXT_NUMBERS = ["1e3", "+1", "-1", "1.", ".5", "0x1", "٣", "1 ", "1\n", "nan", "inf", "1_0", "1,5", "9" * 21]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0.0), (-0.0, 0.0), (3, 3.0), (0.25, 0.25), ("0", 0.0), ("007.50", 7.5), ("9" * 20, 1e20), (1e308, 1e308)],
)
def test_decimals(value: object, expected: float) -> None:
    assert non_negative_number(value) == expected
    assert type(non_negative_number(value)) is float


@pytest.mark.parametrize("value", [*NO_NUMBERS, *NO_TEXT_NUMBERS, -1, -1e-300, 10**400])
def test_what_is_no_decimal(value: object) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        non_negative_number(value)


def test_shares_are_from_0_to_1() -> None:
    assert [fraction(value) for value in (0, 1, 0.5, "1", "0.125", 5e-324)] == [0, 1, 0.5, 1, 0.125, 5e-324]
    for value in (*NO_NUMBERS, *NO_TEXT_NUMBERS, 1.0000001, "1.0000001", -0.1, 2, 1e308):
        with pytest.raises(ValueError, match=r"^must "):
            fraction(value)


def test_offsets_are_whole_numbers_from_0() -> None:
    assert [parse_offset(value) for value in (0, 5.0, "10", 10**30, "9" * 20)] == [0, 5, 10, 10**30, int("9" * 20)]
    for value in (*NO_NUMBERS, *NO_TEXT_NUMBERS, -1, -1.0, 0.5, "0.5"):
        with pytest.raises(ValueError, match=r"^must "):
            parse_offset(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", Interaction("a")),
        ("4", Interaction("4")),
        (4, Interaction("4")),
        (4.0, Interaction("4")),
        ({"item_id": "a"}, Interaction("a", 1.0)),
        ({"item_id": 7, "rating": 2}, Interaction("7", 2.0)),
        ({"item_id": "a", "rating": None}, Interaction("a", 1.0)),
        ({"item_id": "a", "rating": -MAX_RATING}, Interaction("a", -1e9)),
        ({"item_id": "a", "rating": 1_000_000_000}, Interaction("a", 1e9)),
        ({"item_id": "a", "rating": 0, "when": [object()], "user_id": "u"}, Interaction("a", 0.0)),
        (Interaction("a", 3.0), Interaction("a", 3.0)),
        ("x" * 256, Interaction("x" * 256)),
        ("😀", Interaction("😀")),
    ],
)
def test_interactions(value: object, expected: Interaction) -> None:
    found = parse_interaction(value)
    assert found == expected
    assert type(found.rating) is float


@pytest.mark.parametrize(
    "value",
    [
        *(one for one in NO_NUMBERS if one != " 1"),
        "x" * 257,
        "\ud800",
        ["a", 1],
        {"item_id": None},
        {"item": "a"},
        {"item_id": ""},
        {"item_id": True},
        {"item_id": ["a"]},
        {"item_id": {"item_id": "a"}},
        {"item_id": math.nan},
        *({"item_id": "a", "rating": one} for one in NO_RATINGS),
    ],
)
def test_what_is_no_interaction(value: object) -> None:
    with pytest.raises(ValueError) as caught:
        parse_interaction(value)
    assert str(caught.value).startswith(("each ", "must ", "the rating "))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("genre=Comedy*1.5", Boost(COMEDY, 1.5)),
        ("genre=Comedy * 0", Boost(COMEDY, 0.0)),
        ("genre=Comedy*1000", Boost(COMEDY, MAX_BOOST)),
        ("title=a*b*2", Boost(Condition("title", "=", ("a*b",)), 2.0)),
        ({"filter": "genre=Comedy", "factor": 2}, Boost(COMEDY, 2.0)),
        ({"filter": "genre=Comedy", "factor": "2.5"}, Boost(COMEDY, 2.5)),
        (Boost(COMEDY, 3.0), Boost(COMEDY, 3.0)),
    ],
)
def test_boosts(value: object, expected: Boost) -> None:
    assert parse_boost(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *NO_NUMBERS,
        5,
        "genre=Comedy",
        "*2",
        "*",
        "2*genre=Comedy",
        "genre*2",
        "genre=Comedy*",
        "genre=Comedy*x",
        "genre=Comedy*-1",
        "genre=Comedy*1e2",
        "genre=Comedy*1000.5",
        "\ud800=a*2",
        {"filter": "genre=Comedy"},
        {"factor": 2},
        {"filter": "genre=Comedy", "factor": 2, "more": 1},
        {"filter": None, "factor": 2},
        {"filter": 5, "factor": 2},
        *(
            {"filter": "genre=Comedy", "factor": one}
            for one in (True, None, -1, math.nan, math.inf, 1001, 10**400, [2], "")
        ),
    ],
)
def test_what_is_no_boost(value: object) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        parse_boost(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("genre:2", MaxPer("genre", 2)),
        (" genre : 2 ", MaxPer("genre", 2)),
        ("genre:1000", MaxPer("genre", 1000)),
        ({"attribute": "genre", "count": 3.0}, MaxPer("genre", 3)),
        ({"attribute": "genre", "count": "3"}, MaxPer("genre", 3)),
        (MaxPer("genre", 1), MaxPer("genre", 1)),
    ],
)
def test_quotas(value: object, expected: MaxPer) -> None:
    assert parse_max_per(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *NO_NUMBERS,
        5,
        "genre",
        "genre:",
        ":2",
        "  :2",
        "a:b:2",
        "a=b:2",
        "genre:0",
        "genre:1001",
        "genre:-1",
        "genre:1.5",
        "x" * 101 + ":2",
        {"attribute": "genre"},
        {"count": 2},
        {"attribute": "genre", "count": 2, "more": 1},
        *({"attribute": one, "count": 2} for one in (None, 5, "", "a|b", ["genre"])),
        *({"attribute": "genre", "count": one} for one in (True, None, 0, 1001, math.nan, 1.5, [1], 10**400)),
    ],
)
def test_what_is_no_quota(value: object) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        parse_max_per(value)


LISTS: list[tuple[Any, Callable[[int], Any], Any, int]] = [
    (ItemIds, str, "a", MAX_IDS),
    (UserIds, str, "a", MAX_IDS),
    (Interactions, str, "a", MAX_IDS),
    (Boosts, lambda number: f"a={number}*2", "genre=Comedy*2", MAX_BOOSTS),
    (MaxPers, lambda number: f"a{number}:2", "genre:2", MAX_QUOTAS),
]


@pytest.mark.parametrize(("kind", "one", "single", "most"), LISTS)
def test_lists_are_read_up_to_a_length(kind: Any, one: Callable[[int], Any], single: Any, most: int) -> None:
    adapter = TypeAdapter(kind)
    assert len(adapter.validate_python([one(number) for number in range(most)])) == most
    with pytest.raises(ValidationError, match=f"must have at most {most} elements"):
        adapter.validate_python([one(number) for number in range(most + 1)])
    assert (
        adapter.validate_python(single) == adapter.validate_python([single]) == adapter.validate_python((single,))
    )
    assert adapter.validate_python([]) == []
    for wrong in ([[single]], [single, None], {}, None, True, [True], {single}, {"item_id": [single]}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


@given(st.lists(st.integers(), max_size=6))
def test_a_single_thing_is_a_list_of_one(values: list[int]) -> None:
    read = list_of(lambda value: value, 5)
    if len(values) > 5:
        with pytest.raises(ValueError, match="must have at most 5 elements"):
            read(values)
        return
    assert read(values) == read(tuple(values)) == values
    assert [read(value) for value in values] == [[value] for value in values]


def test_wishes_become_a_query() -> None:
    wishes = TypeAdapter(UserOptions).validate_python(
        {
            "n": "3",
            "offset": 2.0,
            "exclude": 5,
            "candidates": ["a", 6],
            "boost": "genre=Comedy*2",
            "max_per": ["genre:2"],
            "filter": "genre=Comedy",
            "diversity": "0.5",
            "interactions": [{"item_id": 1, "rating": 2}, "b"],
            "explain": "1",
            "exclude_seen": False,
            "popularity": "recent",
        }
    )
    assert Query.from_options(wishes) == Query(
        n=3,
        offset=2,
        exclude=["5"],
        candidates=["a", "6"],
        boosts=[Boost(COMEDY, 2.0)],
        max_per=[MaxPer("genre", 2)],
        filters=[COMEDY],
        diversity=0.5,
        interactions=[Interaction("1", 2.0), Interaction("b", 1.0)],
        explain=True,
        exclude_seen=False,
        fallback="recent",
    )
    assert Query.from_options({}) == Query()
    assert Query.from_options({"fallback": False, "popularity": "recent"}).fallback is None
    assert Query.from_options(TypeAdapter(RankOptions).validate_python({"fallback": "true"})).fallback == "overall"
    for wrong in ({"popularity": "weekly"}, {"diversity": 1.5}, {"offset": -1}, {"n": 0}, {"explain": "yes"}):
        with pytest.raises(ValidationError):
            TypeAdapter(UserOptions).validate_python(wrong)
