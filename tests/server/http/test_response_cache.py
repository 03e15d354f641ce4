"""Answers that were given before are given again, but never in place of one that would differ."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import ClientSession

from recserver import RecServer, Settings
from recserver._internal.core.events import RunEnded
from recserver._internal.server.http.response_cache import ENTRY_OVERHEAD, ResponseCache
from recserver.testing import ScriptedExecutor
from tests.helpers.api_client import Api, Serve

PATH = "/recommend?user_id=u0&model_id=m"


@pytest.fixture
def looked(trained: Api, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Users for whom an answer was looked for."""
    together, found = trained.rec._services.batcher, list[str]()
    recommend = type(together).recommend

    async def counted(self: Any, model: Any, user_id: str, query: Any) -> Any:
        found.append(user_id)
        return await recommend(self, model, user_id, query)

    monkeypatch.setattr(type(together), "recommend", counted)
    return found


async def retrained(api: Api, trainings: ScriptedExecutor) -> None:
    with api.rec.events.listen() as events:
        await api.ok("POST", "/run_task", {"task_name": "t", "force": True})
        (await trainings.next()).finish()
        assert (await events.next(RunEnded)).outcome == "completed"


async def test_a_repeated_request_is_computed_once(trained: Api, looked: list[str]) -> None:
    answers = [await trained.ok("GET", PATH) for _ in range(3)]
    assert looked == ["u0"] and answers[0] == answers[1] == answers[2]
    await trained.ok("GET", f"{PATH}&n=1")
    await trained.ok("GET", "/recommend/u0/m")
    assert looked == ["u0"] * 3  # other addresses, though they ask for the same


async def test_a_new_version_invalidates_responses(
    trained: Api, looked: list[str], trainings: ScriptedExecutor
) -> None:
    assert (await trained.ok("GET", PATH))["model_version"] == 1
    await retrained(trained, trainings)
    assert [(await trained.ok("GET", PATH))["model_version"] for _ in range(2)] == [2, 2]
    await trained.ok("POST", "/rollback_model", {"model_id": "m"})
    assert (await trained.ok("GET", PATH))["model_version"] == 1
    assert looked == ["u0"] * 3


async def test_a_deleted_model_invalidates_responses(trained: Api) -> None:
    await trained.ok("GET", PATH)
    await trained.ok("DELETE", "/delete_model/m?force=true")
    assert (await trained.get(PATH)).code == "model_not_found"


async def test_requests_with_a_body_are_not_cached(trained: Api, looked: list[str]) -> None:
    for n in (1, 2):
        answer = await trained.ok("GET", PATH, {"n": n})
        assert answer["n_recommendations"] == min(n, len(answer["predictions"]["u0"]))
        await trained.ok("POST", "/recommend", {"user_id": "u0", "model_id": "m"})
    assert looked == ["u0"] * 4


async def test_cached_responses_skip_no_check(trained: Api) -> None:
    async with ClientSession(headers={"Content-Type": "text/xml"}) as session:
        for expected in (415, 200, 415):
            if expected == 200:
                await trained.ok("GET", PATH)
            else:
                async with session.get(trained.url + PATH) as response:
                    assert response.status == expected


async def test_errors_are_not_cached(trained: Api) -> None:
    for _ in range(2):
        assert (await trained.get(f"{PATH}&n=0")).status == 422
        assert (await trained.get("/recommend/u0/none")).status == 404


async def test_cached_responses_need_the_key(trained: Api, serve: Serve, settings: Settings) -> None:
    key = "a key of its own, long enough"
    locked = settings.model_copy(update={"read_only": True, "api_key": Settings(api_key=key).api_key})
    api = await serve(RecServer(trained.rec.data_dir, locked, executor=ScriptedExecutor()))
    async with ClientSession(headers={"X-API-Key": key}) as session:
        for _ in range(2):
            async with session.get(api.url + PATH) as response:
                assert response.status == 200
            assert (await api.get(PATH)).code == "unauthorized"


async def test_the_cache_can_be_disabled(
    trained: Api, looked: list[str], serve: Serve, settings: Settings
) -> None:
    without = settings.model_copy(update={"read_only": True, "answer_cache": 0})
    api = await serve(RecServer(trained.rec.data_dir, without, executor=ScriptedExecutor()))
    for _ in range(2):
        await api.ok("GET", PATH)
    assert looked == ["u0"] * 2


class Version:
    """Something that can be told from another of its kind."""


def test_the_least_recently_used_responses_are_evicted() -> None:
    version = Version()
    answers = ResponseCache(lambda model_id: version, 3 * (ENTRY_OVERHEAD + 100))
    for address in "abc":
        answers.put(address, "m", b"x" * 99, version)
    assert answers.get("a") == b"x" * 99
    answers.put("d", "m", b"y" * 99, version)
    assert [answers.get(one) is not None for one in "abcd"] == [True, False, True, True]
    answers.put("a", "m", b"z", version)
    answers.put("e", "m", b"x" * 10_000, version)  # more than there is room for
    assert answers.get("a") == b"z" and answers.get("e") is None and answers.get("c") is not None


def test_a_response_of_a_replaced_version_is_not_cached() -> None:
    before, after = Version(), Version()
    answers = ResponseCache(lambda model_id: after, 10_000)
    answers.put("a", "m", b"x", before)
    assert answers.get("a") is None


def test_cached_responses_do_not_hold_versions_in_memory() -> None:
    serving = {"m": Version()}
    answers = ResponseCache(serving.get, 10_000)
    answers.put("a", "m", b"x", serving["m"])
    assert answers.get("a") == b"x"
    del serving["m"]
    assert answers.get("a") is None
