"""Which version answers: swapped without a missed request, loaded once, and never a file that is not one."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from recserver import RecServer, Settings
from recserver._internal.core.errors import ModelNotFound, ModelNotTrained
from recserver._internal.core.events import ModelServes, RunEnded
from recserver._internal.registry import model_cache as catalog
from recserver.testing import FakeClock, ScriptedExecutor, few_interactions

pytestmark = pytest.mark.slow


class Trained:
    """A server with a model that was trained once."""

    def __init__(self, rec: RecServer, clock: FakeClock, trainings: ScriptedExecutor) -> None:
        self.rec, self.clock, self.trainings = rec, clock, trainings
        self.pickle = rec.data_dir / "models" / "m.pkl"

    async def retrain(self, items: int) -> None:
        """Let the next version know that many items."""
        with self.rec.events.listen() as events:
            await self.clock.advance(60)
            (await self.trainings.next()).finish(few_interactions(3, items))
            assert (await events.next(RunEnded)).outcome == "completed"

    async def ask(self, user: str = "nobody") -> dict[str, Any]:
        return dict(await self.rec.recommend(user, model_id="m", n=1000))


@asynccontextmanager
async def opened(data_dir: Path, settings: Settings) -> AsyncIterator[Trained]:
    """A server over a data folder; where there is no model yet, it is made and trained."""
    clock, trainings = FakeClock(), ScriptedExecutor()
    settings = settings.model_copy(update={"rescan_seconds": 3600.0})
    rec = RecServer(data_dir, settings, clock=clock, executor=trainings)
    with rec.events.listen() as events:
        async with rec:
            if not await rec._services.models.ids():
                await rec.create_model("m", algorithm="nmf")
                await rec.create_data_chef_from_csv("c", file_path="rows.csv")
                await rec.add_model_task("t", model_id="m", data_chef_id="c", interval=60)
                (await trainings.next()).finish(few_interactions(3, 1))
                await events.next(RunEnded)
            yield Trained(rec, clock, trainings)


@pytest.fixture
async def trained(data_dir: Path, settings: Settings) -> AsyncIterator[Trained]:
    async with opened(data_dir, settings) as server:
        yield server


@pytest.fixture
def threads_take_turns_quickly() -> Iterator[None]:
    """A loop that is always busy keeps threads, such as those that write files, waiting for milliseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("threads_take_turns_quickly")
async def test_a_swap_misses_no_request_and_mixes_no_versions(trained: Trained) -> None:
    """Version v knows v items, so an answer that mixed two versions would show."""
    answers: list[tuple[int, int]] = []
    over = asyncio.Event()

    async def ask_on_and_on() -> None:
        while not over.is_set():
            answer = await trained.ask()
            answers.append((answer["model_version"], answer["n_recommendations"]))
            await asyncio.sleep(0)

    asking = [asyncio.create_task(ask_on_and_on()) for _ in range(4)]
    for version in range(2, 6):
        await trained.retrain(items=version)
    over.set()
    await asyncio.gather(*asking)
    assert all(version == items for version, items in answers)
    assert {version for version, _ in answers} == set(range(1, 6))
    assert len(answers) > 1000


async def test_a_model_is_loaded_once_however_many_ask(
    data_dir: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(data_dir, settings):
        pass
    (data_dir / "tasks" / "t.json").unlink()  # planning a task would load the model before anybody asks
    opened_files: list[Path] = []
    open_packed = catalog.load_model

    def counting(path: Path) -> Any:
        opened_files.append(path)
        return open_packed(path)

    monkeypatch.setattr(catalog, "load_model", counting)
    async with opened(data_dir, settings) as server:
        assert server.rec._services.model_cache.get_loaded("m") is None
        answers = await asyncio.gather(*(server.ask() for _ in range(100)))
    assert {answer["model_version"] for answer in answers} == {1}
    assert len(opened_files) == 1


async def test_a_file_put_in_place_by_hand_serves_when_it_is_looked_at(trained: Trained) -> None:
    first = trained.pickle.read_bytes()
    await trained.retrain(items=2)
    assert (await trained.ask())["model_version"] == 2
    other = trained.pickle.with_suffix(".new")
    other.write_bytes(first)
    other.replace(trained.pickle)
    await trained.rec._services.model_cache.refresh()
    assert (await trained.ask())["model_version"] == 1


@pytest.mark.parametrize("content", [b"", b"garbage", b"cos\ngetenv\n(S'HOME'\ntR.", None])
async def test_a_broken_file_does_not_unload_what_serves(trained: Trained, content: bytes | None) -> None:
    trained.pickle.unlink()
    if content is None:
        trained.pickle.mkdir()
    else:
        trained.pickle.write_bytes(content)
    await trained.rec._services.model_cache.refresh()
    assert (await trained.ask())["model_version"] == 1


@pytest.mark.parametrize("content", [b"garbage", b"cos\ngetenv\n(S'HOME'\ntR.", None])
async def test_after_a_restart_a_broken_file_asks_for_a_training(
    data_dir: Path, settings: Settings, content: bytes | None
) -> None:
    async with opened(data_dir, settings) as server:
        server.pickle.unlink()
    if content is None:
        shutil.rmtree(data_dir / "models" / ".versions")  # else the kept version takes its place
    else:
        server.pickle.write_bytes(content)
    async with opened(data_dir, settings) as server:
        info = await server.rec.get_model_info("m")
        assert info["needs_training"] is True
        with pytest.raises(ModelNotTrained, match="train"):
            await server.ask()
        (await server.trainings.next()).finish(few_interactions(3, 2))  # at once: nothing could be served
        await server.clock.settle()
        assert (await server.ask())["model_version"] == 2


async def test_an_empty_folder_unloads_nothing_and_one_without_the_model_does(trained: Trained) -> None:
    folder, away = trained.rec.data_dir / "models", trained.rec.data_dir / "away"
    folder.rename(away)
    for there in (False, True):
        if there:
            folder.mkdir()
        await trained.rec._services.model_cache.refresh()
        assert (await trained.ask())["model_version"] == 1
    shutil.copy(away / "m_config.json", folder / "other_config.json")
    await trained.rec._services.model_cache.refresh()
    with pytest.raises(ModelNotFound):
        await trained.ask()


@pytest.mark.parametrize("change", ["deleted", "replaced"])
async def test_what_changes_while_it_is_loaded_is_noticed(
    data_dir: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    async with opened(data_dir, settings) as server:
        first = server.pickle.read_bytes()
        await server.retrain(items=2)
        second = server.pickle.read_bytes()
    server.pickle.write_bytes(first)
    (data_dir / "tasks" / "t.json").unlink()
    open_packed = catalog.load_model

    def slow(path: Path) -> Any:
        monkeypatch.undo()
        loaded = open_packed(path)
        if change == "deleted":
            shutil.rmtree(path.parent)
        else:
            other = path.with_suffix(".new")
            other.write_bytes(second)
            other.replace(path)
        return loaded

    async with opened(data_dir, settings) as server:
        monkeypatch.setattr(catalog, "load_model", slow)
        if change == "deleted":
            with pytest.raises(ModelNotTrained):
                await server.ask()
            assert server.rec._services.model_cache.get_loaded("m") is None
        else:
            assert (await server.ask())["model_version"] == 2


async def test_locks_of_loads_last_as_long_as_the_loads(trained: Trained) -> None:
    for number in range(20):
        await trained.rec.create_model(f"n{number}", algorithm="nmf")
        with pytest.raises(ModelNotTrained):
            await trained.rec.recommend("u", model_id=f"n{number}")
        await trained.rec.delete_model(f"n{number}")
    assert len(trained.rec._services.model_cache._load_locks) == 0


async def test_asking_for_models_that_are_not_there_keeps_nothing(trained: Trained) -> None:
    before = len(trained.rec._services.model_cache._load_locks)
    for number in range(50):
        with pytest.raises(ModelNotFound):
            await trained.rec.recommend("u", model_id=f"no{number}")
    assert len(trained.rec._services.model_cache._load_locks) == before


async def test_every_version_is_announced_once(trained: Trained) -> None:
    with trained.rec.events.listen() as events:
        await trained.retrain(items=2)
        await trained.rec._services.model_cache.refresh()
        await trained.retrain(items=3)
        seen = [(await events.next(ModelServes)).model_version for _ in range(2)]
    assert seen == [2, 3]


async def test_a_version_found_in_the_folder_before_it_is_swapped_in_is_announced_once(trained: Trained) -> None:
    catalog, models = trained.rec._services.model_cache, trained.rec._services.models
    serving, file = catalog.get_loaded("m"), await asyncio.to_thread(models.file_stat, "m")
    assert serving is not None and file is not None
    with trained.rec.events.listen() as events:
        catalog.activate("m", serving, file)
        await trained.retrain(items=2)
        assert (await events.next(ModelServes)).model_version == 2
