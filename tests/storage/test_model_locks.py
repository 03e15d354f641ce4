"""One change of a model at a time, and readings that no change comes between."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from recserver._internal.core.errors import ModelNotFound
from recserver._internal.registry.consistent_reads import read_all_consistently, read_consistently
from recserver._internal.registry.model_locks import ModelLocks
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.model_store import ModelStore, StoredModel


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    """Three models that were never trained."""
    for name in "abc":
        (tmp_path / f"{name}_config.json").write_text(json.dumps({"algorithm": "nmf"}))
    return ModelStore(tmp_path)


async def test_a_nested_change_does_not_wait_and_ends_with_the_outer_one() -> None:
    locks, moment = ModelLocks(), ModelLocks().moment()
    async with asyncio.timeout(20), locks.changing("m"):
        async with locks.changing("m"), locks.reading("m"):
            pass
        assert locks.changed_since("m", locks.moment())
        reader = asyncio.create_task(_entered(locks))
        await asyncio.sleep(0)
        assert not reader.done()
    await reader
    assert locks.changed_since("m", moment)
    assert not locks.changed_since("m", locks.moment())
    assert not locks.changed_since("n", moment)


async def _entered(locks: ModelLocks) -> None:
    async with locks.reading("m"):
        pass


async def test_a_model_that_changes_while_more_is_found_out_is_read_again(models: ModelStore) -> None:
    memory = {"a": "initializing"}

    async def look(model: StoredModel) -> str:
        found = memory["a"]
        if found == "initializing":
            async with models.locks.changing("a"):
                await models.update_config("a", ModelStatus.TRAINING)
                memory["a"] = "training"
        return found

    model, found = await read_consistently(models, "a", look)
    assert model.status == found == "training"


async def test_of_all_models_those_that_changed_are_read_again(models: ModelStore) -> None:
    memory = dict.fromkeys("abc", "initializing")
    looked = list[str]()

    async def look(model: StoredModel) -> str:
        looked.append(model.model_id)
        found = memory[model.model_id]
        if looked == ["a", "b"]:  # a was looked at before, c is yet to be
            for model_id in "ac":
                async with models.locks.changing(model_id):
                    await models.update_config(model_id, ModelStatus.TRAINING)
                    memory[model_id] = "training"
        return found

    read = await read_all_consistently(models, look)
    assert [(model.model_id, model.status, found) for model, found in read] == [
        ("a", "training", "training"),
        ("b", "initializing", "initializing"),
        ("c", "training", "training"),
    ]
    assert looked == ["a", "b", "c", "a", "c"]


async def test_a_model_that_is_deleted_meanwhile_is_omitted(models: ModelStore) -> None:
    async def look(model: StoredModel) -> None:
        if "b" in await models.ids():
            await models.delete("b")

    assert [model.model_id for model, _ in await read_all_consistently(models, look)] == ["a", "c"]
    with pytest.raises(ModelNotFound):
        await read_consistently(models, "b", look)


async def test_a_list_waits_for_the_change_that_is_under_way(models: ModelStore) -> None:
    go_on, looked = asyncio.Event(), asyncio.Event()

    async def look(model: StoredModel) -> None:
        if model.model_id == "c":
            looked.set()

    async def change() -> None:
        async with models.locks.changing("b"):
            await models.update_config("b", ModelStatus.TRAINING)
            await go_on.wait()
            await models.update_config("b", ModelStatus.FAILED)

    changing = asyncio.create_task(change())
    await asyncio.sleep(0)
    reading = asyncio.create_task(read_all_consistently(models, look))
    await looked.wait()
    go_on.set()
    assert [model.status for model, _ in await reading] == ["initializing", "failed", "initializing"]
    await changing
