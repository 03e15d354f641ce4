"""The end of a run is visible everywhere at one moment, and the next run can start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession

from recserver import RecServer, Settings
from recserver.testing import ScriptedExecutor
from tests.helpers.watched_trainings import WATCHERS, Ask, Watched, asks_http, asks_library

C, F, S = "completed", "failed", "stopped"

PLANS = [[C, C, F, S, C], [F, C, S, C, F], [S, C, C, F, C], [C, S, F, C, C], [F, S, C, F, S]] * 2
"""Ten models, fifty trainings: how the runs of each model end."""

GOOD = "user_id,item_id\n" + "".join(f"u{i % 7},i{i % 5}\n" for i in range(35))


@dataclass
class Scripted:
    """Trainings in this process that end at once."""

    rec: RecServer
    executor: ScriptedExecutor
    pause: float = 0

    async def prepare(self, kind: str) -> None:
        """Nothing."""

    async def conduct(self, kind: str, model_id: str) -> None:
        """End the training."""
        training = await self.executor.next()
        if kind == C:
            training.finish()
        elif kind == F:
            training.fail()
        else:
            await self.rec.stop_training(model_id=model_id)


@dataclass
class Real:
    """Trainings in worker processes, which need some of the processor too."""

    rec: RecServer
    pause: float = 0.05

    async def prepare(self, kind: str) -> None:
        """Write what the source gives."""
        content = "nothing,of_use\n1,2\n" if kind == F else GOOD
        await asyncio.to_thread((self.rec.data_dir / "rows.csv").write_text, content)

    async def conduct(self, kind: str, model_id: str) -> None:
        """Stop the training, if it is to be stopped."""
        if kind == S:
            await self.rec.stop_training(model_id=model_id)


@pytest.fixture
def executor() -> ScriptedExecutor:
    return ScriptedExecutor()


@pytest.fixture
async def scripted(data_dir: Path, settings: Settings, executor: ScriptedExecutor) -> AsyncIterator[RecServer]:
    """An open server whose trainings the test ends."""
    async with RecServer(data_dir, settings, executor=executor) as rec:
        yield rec


async def asking(how: str, rec: RecServer, stack: AsyncExitStack) -> Ask:
    """Calls operations of ``rec``, through the library or over HTTP."""
    if how == "library":
        return asks_library(rec)
    url = await stack.enter_async_context(rec.serve())
    return asks_http(await stack.enter_async_context(ClientSession(url)))


async def watch(rec: RecServer, ask: Ask, trainings: Scripted | Real, plans: list[list[str]]) -> list[Watched]:
    """Watch one model after the other through its runs."""
    await Real(rec).prepare(C)
    await rec.create_data_chef_from_csv("c", file_path="rows.csv")
    watched, turn = list[Watched](), 0
    for number, plan in enumerate(plans):
        watched.append(Watched(rec, ask, f"m{number}", plan, trainings, pause=trainings.pause, turn=turn))
        await watched[-1].run()
        turn = watched[-1].turn
    return watched


@pytest.mark.slow
@pytest.mark.parametrize(("how", "plans"), [("library", PLANS), ("http", PLANS[:3])])
async def test_many_trainings(
    scripted: RecServer, executor: ScriptedExecutor, how: str, plans: list[list[str]]
) -> None:
    async with AsyncExitStack() as stack:
        ask = await asking(how, scripted, stack)
        watched = await watch(scripted, ask, Scripted(scripted, executor), plans)
    assert {one for each in watched for one in each.began} == set(WATCHERS[: sum(map(len, plans))])
    statuses = {status for each in watched for operation, status in each.seen if operation == "get_model_info"}
    expected = {"training", "validating", C, F, S}
    assert statuses == expected if how == "library" else statuses <= expected


@pytest.mark.parametrize(("how", "plans"), [("library", [[F, C, C, S, F], [C, S, C]]), ("http", [[C, F], [S, C]])])
async def test_trainings_in_worker_processes(rec: RecServer, how: str, plans: list[list[str]]) -> None:
    async with AsyncExitStack() as stack:
        watched = await watch(rec, await asking(how, rec, stack), Real(rec), plans)
    began = [one for each in watched for one in each.began]
    assert set(began) == set(WATCHERS[: sum(map(len, plans))])
