"""Requests for a large model are answered in batches, each as if it were alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from model_files import write_model
from recserver.catalog import open_packed
from recserver.errors import InvalidInput
from recserver.recommend.answering import Answer, recommend, recommend_many
from recserver.recommend.query import Query
from recserver.recommend.recommender import Recommender
from recserver.service import together
from recserver.service.together import MOST, MOST_AT_ONCE, Together
from recserver.specs.conditions import parse_condition

WRONG = Query(filters=[parse_condition("genre=Comedy")])


@pytest.fixture
def model(tmp_path: Path) -> Recommender:
    return open_packed(write_model(tmp_path / "m.pkl", items=300))[1]


@pytest.fixture
def other(tmp_path: Path) -> Recommender:
    """The version after it."""
    return open_packed(write_model(tmp_path / "o.pkl", items=300, seed=1, version=2))[1]


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each batch had."""
    found: list[int] = []

    def counted(model: Recommender, asked: Sequence[tuple[str | None, Query]]) -> Iterator[Answer]:
        found.append(len(asked))
        return recommend_many(model, asked)

    monkeypatch.setattr(together, "recommend_many", counted)
    return found


def items(answer: Answer) -> list[str]:
    return [item for item, _ in answer.items]


@pytest.fixture
def in_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is a large one."""
    monkeypatch.setattr(together, "INLINE_CELLS", 0)


@pytest.mark.parametrize("large", [True, False])
async def test_whoever_comes_meanwhile_is_answered_together(
    model: Recommender, sizes: list[int], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "INLINE_CELLS", 0 if large else 10**9)
    asked = [(f"u{number % 4}", Query(n=1 + number % 9)) for number in range(200)]
    answers = await asyncio.gather(*(run(model, *one) for run in [Together().recommend] for one in asked))
    assert sizes == ([1, MOST, MOST, MOST, 200 - 1 - 3 * MOST] if large else [MOST_AT_ONCE] * 12 + [8])
    for (user, query), answer in zip(asked, answers, strict=True):
        alone = recommend(model, user, query)
        assert (items(answer), answer.source) == (items(alone), alone.source)
        assert [score for _, score in answer.items] == pytest.approx([score for _, score in alone.items])


async def test_a_wrong_request_fails_alone(model: Recommender) -> None:
    queries = [WRONG if number == 5 else Query() for number in range(20)]
    run = Together().recommend
    answers = await asyncio.gather(*(run(model, "u1", one) for one in queries), return_exceptions=True)
    assert isinstance(answers[5], InvalidInput)
    assert all(isinstance(one, Answer) for number, one in enumerate(answers) if number != 5)


@pytest.mark.usefixtures("in_thread")
async def test_what_is_given_up_is_not_looked_for(model: Recommender, sizes: list[int]) -> None:
    run = Together().recommend
    asked = [asyncio.ensure_future(run(model, "u1", Query())) for _ in range(10)]
    await asyncio.sleep(0)  # all of them have asked, and the first is being answered
    for one in asked[:8]:
        one.cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in answers] == [asyncio.CancelledError] * 8 + [Answer] * 2
    assert sizes == [1, 2]


async def test_nobody_is_looked_for_who_gave_up_at_once(model: Recommender, sizes: list[int]) -> None:
    asked = asyncio.ensure_future(Together().recommend(model, "u1", Query()))
    asyncio.get_running_loop().call_soon(asked.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert sizes in ([], [0])


async def test_versions_do_not_wait_for_each_other(
    model: Recommender, other: Recommender, sizes: list[int]
) -> None:
    run = Together().recommend
    one, two = await asyncio.gather(run(model, "u1", Query()), run(other, "u1", Query()))
    assert sizes == [1, 1]
    assert items(one) == items(recommend(model, "u1", Query())) != items(two)


async def test_nothing_is_kept_of_a_model_that_nobody_asks(model: Recommender) -> None:
    many = Together()
    await asyncio.gather(*(many.recommend(model, "u1", Query()) for _ in range(3)))
    assert not many._waiting
