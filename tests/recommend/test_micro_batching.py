"""Requests for a large model are answered in batches, each as if it were alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import current_thread
from typing import Any

import pytest

from recserver._internal.core.errors import Draining, InvalidInput
from recserver._internal.recommend import micro_batching as together
from recserver._internal.recommend.filters import parse_condition
from recserver._internal.recommend.micro_batching import MAX_BATCH, MicroBatcher
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import Answer, recommend
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import Interaction
from tests.helpers.answering_models import made
from tests.helpers.model_files import write_model

WRONG = Query(filters=[parse_condition("genre=Comedy")])


@pytest.fixture
def model(tmp_path: Path) -> Recommender:
    return load_model(write_model(tmp_path / "m.pkl", items=300))[1]


@pytest.fixture
def other(tmp_path: Path) -> Recommender:
    """The version after it."""
    return load_model(write_model(tmp_path / "o.pkl", items=300, seed=1, version=2))[1]


@pytest.fixture
def many() -> Iterator[MicroBatcher]:
    found = MicroBatcher()
    yield found
    found.close()


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each batch had."""
    found: list[int] = []

    answers = together._answer_batch

    def counted(model: Recommender, batch: Sequence[Any]) -> list[Any]:
        found.append(len(batch))
        return answers(model, batch)

    monkeypatch.setattr(together, "_answer_batch", counted)
    return found


def items(answer: Answer) -> list[str]:
    return [item for item, _ in answer.items]


@pytest.fixture
def in_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is a large one."""
    monkeypatch.setattr(together, "batched_scoring_ms", lambda model: 10.0)


@pytest.mark.parametrize("large", [True, False])
async def test_whoever_comes_meanwhile_is_answered_together(
    many: MicroBatcher, model: Recommender, sizes: list[int], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        together, "batched_scoring_ms", lambda model: 10.0 if large else together.MAX_INLINE_MS / 16
    )
    asked = [(f"u{number % 4}", Query(n=1 + number % 9)) for number in range(200)]
    answers = await asyncio.gather(*(many.recommend(model, *one) for one in asked))
    assert sizes == ([1, MAX_BATCH, MAX_BATCH, MAX_BATCH, 200 - 1 - 3 * MAX_BATCH] if large else [16] * 12 + [8])
    for (user, query), answer in zip(asked, answers, strict=True):
        assert answer == recommend(model, user, query)


async def test_a_wrong_request_fails_alone(many: MicroBatcher, model: Recommender) -> None:
    queries = [WRONG if number == 5 else Query() for number in range(20)]
    run = many.recommend
    answers = await asyncio.gather(*(run(model, "u1", one) for one in queries), return_exceptions=True)
    assert isinstance(answers[5], InvalidInput)
    assert all(isinstance(one, Answer) for number, one in enumerate(answers) if number != 5)


@pytest.mark.usefixtures("in_thread")
async def test_what_is_given_up_is_not_looked_for(
    many: MicroBatcher, model: Recommender, sizes: list[int]
) -> None:
    run = many.recommend
    asked = [asyncio.ensure_future(run(model, "u1", Query())) for _ in range(10)]
    await asyncio.sleep(0)  # all of them have asked, and the first is being answered
    for one in asked[:8]:
        one.cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in answers] == [asyncio.CancelledError] * 8 + [Answer] * 2
    assert sizes == [1, 2]


async def test_nobody_is_looked_for_who_gave_up(many: MicroBatcher, model: Recommender, sizes: list[int]) -> None:
    asked = asyncio.ensure_future(many.recommend(model, "u1", Query()))
    asyncio.get_running_loop().call_soon(asked.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert sizes in ([], [0])


async def test_versions_do_not_wait_for_each_other(
    many: MicroBatcher, model: Recommender, other: Recommender, sizes: list[int]
) -> None:
    run = many.recommend
    one, two = await asyncio.gather(run(model, "u1", Query()), run(other, "u1", Query()))
    assert sizes == [1, 1]
    assert items(one) == items(recommend(model, "u1", Query())) != items(two)


async def test_nothing_is_kept_of_a_model_that_nobody_asks(many: MicroBatcher, model: Recommender) -> None:
    await asyncio.gather(*(many.recommend(model, "u1", Query()) for _ in range(3)))
    assert not many._queues


async def test_what_takes_long_does_not_wait_for_a_batch(
    many: MicroBatcher, model: Recommender, sizes: list[int]
) -> None:
    """Nor does anybody wait for it."""
    answer = await many.recommend(model, "u1", Query(exclude=["i000001"]))
    assert sizes == [] and "i000001" not in items(answer)


@pytest.mark.parametrize(
    ("k", "confidence", "takes_long"), [(32, 0.0, False), (32, 40.0, False), (250, 40.0, True), (300, 0.0, True)]
)
async def test_whoever_is_folded_into_many_factors_is_answered_in_a_thread(
    many: MicroBatcher, k: int, confidence: float, takes_long: bool
) -> None:
    """However few items there are."""
    model = made(200, k)
    assert model.fold_in is not None
    model = replace(model, fold_in=replace(model.fold_in, alpha=confidence))
    found = await many.run_query(model, Query(interactions=[Interaction("i00003")]), current_thread)
    assert (found is not current_thread()) is takes_long


def test_each_event_loop_gets_its_own_answers(many: MicroBatcher, model: Recommender) -> None:
    async def ask() -> int:
        return len(await asyncio.gather(*(many.recommend(model, "u1", Query()) for _ in range(50))))

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda _: asyncio.run(ask()), range(6))) == [50] * 6


async def test_nothing_waits_for_ever_once_it_is_closed(
    many: MicroBatcher, model: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "batched_scoring_ms", lambda model: 10.0)
    many.close()
    for query in (Query(), Query(), Query(explain=True)):
        with pytest.raises(Draining):
            await many.recommend(model, "u1", query)
