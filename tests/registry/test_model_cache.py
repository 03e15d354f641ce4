"""Which models are in memory: those asked last, as many as fit; and what is known of the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from recserver import RecServer, Settings
from recserver._internal.core.errors import ModelNotFound, ModelNotTrained
from recserver._internal.core.events import EventBus, ModelServes
from recserver._internal.recommend.pipeline import recommend
from recserver._internal.recommend.query import Query
from recserver._internal.registry import model_cache as catalog
from recserver._internal.registry.model_cache import ModelCache
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.server.settings import available_memory
from tests.helpers.model_files import put_model, write_model


class Few:
    """A catalog with room for two of the models ``a`` to ``d``."""

    def __init__(self, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models = models
        self.files = {one: put_model(models, one, seed=ord(one)) for one in "abcd"}
        self.size = self.files["a"].stat().st_size
        self.store, self.events = ModelStore(models), EventBus()
        self.catalog = ModelCache(self.store, self.events, self.size * 2)
        self.opened: list[str] = []
        open_packed = catalog.load_model

        def counting(path: Path) -> Any:
            self.opened.append(path.stem)
            return open_packed(path)

        monkeypatch.setattr(catalog, "load_model", counting)

    @property
    def loaded(self) -> str:
        return "".join(one for one in "abcd" if self.catalog.is_loaded(one))

    async def ask(self, names: str) -> None:
        for name in names:
            await self.catalog.get_or_load(name)


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Few:
    return Few(tmp_path / "models", monkeypatch)


@pytest.mark.parametrize(
    ("asked", "left"),
    [("ab", "ab"), ("abc", "bc"), ("abac", "ac"), ("abcd", "cd"), ("abcabd", "bd"), ("aaab", "ab")],
)
async def test_recently_used_models_are_not_evicted(few: Few, asked: str, left: str) -> None:
    await few.ask(asked)
    assert few.loaded == left


async def test_a_request_keeps_a_model_as_a_load_does(few: Few) -> None:
    await few.ask("ab")
    assert few.catalog.get_loaded("a") is not None
    await few.ask("c")
    assert few.loaded == "ac"


async def test_a_model_larger_than_all_memory_serves_alone(few: Few) -> None:
    write_model(few.models / "new", items=20_000).replace(few.files["d"])
    await few.ask("abd")
    assert few.loaded == "d"
    await few.ask("a")
    assert few.loaded == "a"


async def test_a_request_under_way_keeps_what_it_began_with(few: Few) -> None:
    model = await few.catalog.get_or_load("a")
    before = recommend(model, "u0", Query(n=5))
    await few.ask("bcd")
    assert few.loaded == "cd"
    assert recommend(model, "u0", Query(n=5)) == before


async def test_an_evicted_model_is_loaded_once_however_many_ask_and_announced_once(few: Few) -> None:
    with few.events.listen() as events:
        await few.ask("abc")
        few.opened.clear()
        await asyncio.gather(*(few.catalog.get_or_load("a") for _ in range(50)))
        assert few.opened == ["a"]
        write_model(few.models / "new", version=2).replace(few.files["b"])
        await few.ask("b")
        told = [await events.next(ModelServes) for _ in range(4)]
    assert [(one.model_id, one.model_version) for one in told] == [("a", 1), ("b", 1), ("c", 1), ("b", 2)]


async def test_what_cannot_be_loaded_again_stays(few: Few) -> None:
    await few.ask("a")
    few.files["a"].unlink()
    few.files["a"].write_bytes(b"garbage")
    await few.catalog.refresh()
    await few.ask("bcd")
    assert few.loaded == "ad"


async def test_a_model_that_was_evicted_and_then_deleted_is_forgotten(few: Few) -> None:
    await few.ask("abc")
    for path in few.models.glob("a*"):
        path.unlink()
    await few.catalog.refresh()
    with pytest.raises(ModelNotFound):
        await few.catalog.get_or_load("a")
    put_model(few.models, "a", version=7)
    with few.events.listen() as events:
        await few.ask("a")
        assert (await events.next(ModelServes)).model_version == 7


async def test_memory_is_counted_right_through_swaps_and_drops(few: Few) -> None:
    await few.ask("ab")
    for version in range(2, 12):  # a version takes the place of the one before it
        write_model(few.models / "new", version=version).replace(few.files["b"])
        await few.catalog.refresh()
    assert few.loaded == "ab"
    few.catalog.remove("a")
    few.catalog.remove("a")
    await few.ask("c")
    assert few.loaded == "bc"


async def test_asking_about_models_moves_nothing(few: Few) -> None:
    await few.ask("ab")
    for model in await few.store.read_all():
        assert await few.catalog.quick_unavailable_reason(model) is None
        assert await few.catalog.unavailable_reason(model) is None
    assert (few.loaded, few.opened) == ("ab", ["a", "b"])
    await few.ask("c")
    assert few.loaded == "bc"


@pytest.mark.parametrize("cut", [0, 1, 30, 45, -1, -66, -200])
async def test_a_truncated_file_is_found_without_loading(few: Few, cut: int) -> None:
    content = few.files["a"].read_bytes()
    few.files["a"].write_bytes(content[:cut])
    assert "damaged" in str(await few.catalog.quick_unavailable_reason(await few.store.read("a")))
    few.files["a"].write_bytes(content)
    assert await few.catalog.quick_unavailable_reason(await few.store.read("a")) is None
    assert few.opened == []


async def test_damage_in_the_middle_is_found_on_first_use(few: Few) -> None:
    content = bytearray(few.files["a"].read_bytes())
    content[len(content) // 2] ^= 1
    few.files["a"].write_bytes(content)
    assert await few.catalog.quick_unavailable_reason(await few.store.read("a")) is None
    with pytest.raises(ModelNotTrained, match="checksum"):
        await few.catalog.get_or_load("a")
    assert "checksum" in str(await few.catalog.quick_unavailable_reason(await few.store.read("a")))


async def test_list_models_loads_nothing_and_tells_the_truth(data_dir: Path, settings: Settings) -> None:
    for name in "abc":
        put_model(data_dir / "models", name)
    (data_dir / "models" / "c.pkl").write_bytes(b"cos\ngetenv\n(S'HOME'\ntR.")
    async with RecServer(data_dir, settings) as rec:
        await rec.recommend("u0", model_id="b")
        listed = await rec.list_models()
    assert {name: one["loaded_in_memory"] for name, one in listed.items()} == {"a": False, "b": True, "c": False}
    assert {name: one["needs_training"] for name, one in listed.items()} == {"a": False, "b": False, "c": True}
    assert "train the model again" in listed["c"]["error"]


def test_the_setting_is_mebibytes_and_half_of_all_memory_otherwise() -> None:
    assert Settings(model_memory=3).model_memory_bytes() == 3 * 2**20
    assert 2**20 < Settings().model_memory_bytes() == available_memory() // 2


async def test_a_server_keeps_to_the_setting(data_dir: Path) -> None:
    for name in "abc":
        put_model(data_dir / "models", name, items=40_000, k=4)
    async with RecServer(data_dir, Settings(port=0, training_processes=1, model_memory=4)) as rec:
        for name in "abc":
            await rec.recommend("u0", model_id=name)
        listed = await rec.list_models()
    sizes = sum((data_dir / "models" / f"{name}.pkl").stat().st_size for name in "bc")
    assert sizes <= 4 * 2**20 < sizes * 3 / 2
    assert [name for name, one in listed.items() if one["loaded_in_memory"]] == ["b", "c"]
