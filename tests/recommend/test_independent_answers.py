"""An answer depends on its own request alone, whatever other requests come at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from recserver import RecServer, Settings
from recserver._internal.recommend import micro_batching
from recserver._internal.recommend.batch_top_n import MIN_BATCH
from recserver._internal.recommend.micro_batching import MicroBatcher
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import recommend_many, scored_items
from recserver._internal.recommend.prepared_query import PreparedQuery
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import UserOptions
from recserver._internal.results.base import plain
from tests.helpers.film_models import put_films
from tests.helpers.request_mixes import ASKING, OPTIONS, PARSED, Request, alone, asked_over_http, mixed, reported

values = {name: st.sampled_from(some) for name, some in OPTIONS.items()}
requests = st.lists(
    st.tuples(st.sampled_from(ASKING), st.fixed_dictionaries({}, optional=values)), min_size=2, max_size=40
)
single = st.lists(  # plain requests among those with one option: most of them may share a computation
    st.tuples(
        st.sampled_from(ASKING),
        st.one_of(st.just({}), *(st.fixed_dictionaries({name: one}) for name, one in values.items())),
    ),
    min_size=8,
    max_size=40,
)


@pytest.fixture(scope="module")
def film_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("independent")
    put_films(folder / "models")
    return folder


@pytest.fixture(scope="module")
def model(film_folder: Path) -> Recommender:
    return load_model(film_folder / "models" / "films.pkl")[1]


@pytest.fixture
async def server(film_folder: Path) -> AsyncIterator[RecServer]:
    settings = Settings(port=0, read_only=True, rescan_seconds=60)
    async with RecServer(film_folder, settings) as rec:
        yield rec


def test_every_option_is_tried() -> None:
    """A new option needs values in ``OPTIONS``, so that the tests of this module cover it."""
    assert set(OPTIONS) == set(get_type_hints(UserOptions))
    for name, some in OPTIONS.items():
        assert len({Query.from_options(PARSED.validate_python({name: one})) for one in some}) == len(some), name


@pytest.mark.parametrize("large", [False, True])
@given(data=st.data())
def test_requests_at_once_are_answered_as_if_alone(model: Recommender, large: bool, data: st.DataObject) -> None:
    asked: Sequence[Request] = data.draw(st.one_of(single, requests))

    async def at_once() -> list[Any]:
        answers = MicroBatcher()
        try:
            found = (
                answers.recommend(model, user, Query.from_options(PARSED.validate_python(options)))
                for user, options in asked
            )
            return await asyncio.gather(*found)
        finally:
            answers.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(micro_batching, "batched_scoring_ms", lambda _: 10.0 if large else 0.01)
        found = asyncio.run(at_once())
    answers = [(one.source and one.source.value, plain(scored_items(one))) for one in found]
    assert answers == [alone(model, *one) for one in asked]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_batch_is_answered_as_each_user_alone(model: Recommender, name: str) -> None:
    """Batch scoring applies every option that it supports; a query with any other is answered for each user."""
    users = ASKING * MIN_BATCH
    for value in OPTIONS[name]:
        for options in ({name: value}, {name: value, "n": 3}):
            query = Query.from_options(PARSED.validate_python(options))
            answers = recommend_many(model, users, PreparedQuery.for_model(model, query))
            found = [(one.source and one.source.value, plain(scored_items(one))) for one in answers]
            assert found == [alone(model, user, options) for user in users]


async def test_through_the_library(server: RecServer, model: Recommender) -> None:
    asked = mixed(1, 200)
    answers = await asyncio.gather(*(server.recommend(user, model_id="films", **opts) for user, opts in asked))
    assert [reported(one.to_dict()) for one in answers] == [alone(model, *one) for one in asked]
    sessions = await asyncio.gather(
        *(server.session_recommend(model_id="films", **{"interactions": [], **opts}) for _, opts in asked)
    )
    assert [reported(one.to_dict()) for one in sessions] == [alone(model, None, opts) for _, opts in asked]


@pytest.mark.slow
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("large", [True, False])
async def test_over_http(
    film_folder: Path, model: Recommender, cached: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(micro_batching, "batched_scoring_ms", lambda _: 10.0 if large else 0.01)
    settings = Settings(port=0, read_only=True, rescan_seconds=60, answer_cache=1 if cached else 0)
    async with RecServer(film_folder, settings).serve() as url, ClientSession(url) as client:
        for seed in (2, 2):  # what may be in the answer cache is asked again
            await asked_over_http(client, model, seed)
