"""Operations called from Python: the same validation as over HTTP, with all errors in one exception."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from recserver import RecServer, Settings
from recserver._internal.core.errors import (
    DataChefExists,
    DataChefNotFound,
    Draining,
    InvalidInput,
    ModelExists,
    ModelInUse,
    ModelNotFound,
    ModelNotTrained,
    RecServerError,
    TaskExists,
    TaskNotFound,
)
from recserver._internal.server.http.routes import ROUTES
from recserver._internal.server.service import Service
from recserver._internal.server.service.operation import parameters_of
from recserver.testing import ScriptedExecutor


@pytest.fixture
async def rec(data_dir: Path, settings: Settings) -> AsyncIterator[RecServer]:
    """An open server with the model m, the chef c and the task t, and a stopped scheduler."""
    async with RecServer(data_dir, settings, executor=ScriptedExecutor()) as server:
        await server.stop_scheduler()
        await server.create_model("m", algorithm="nmf")
        await server.create_data_chef_from_csv("c", file_path="rows.csv")
        await server.add_model_task("t", model_id="m", data_chef_id="c", interval=3600)
        yield server


@pytest.mark.parametrize("operation", sorted({route.operation for route in ROUTES}))
def test_every_route_has_an_operation(operation: str) -> None:
    method = getattr(Service, operation)
    assert asyncio.iscoroutinefunction(method) and method.__doc__
    assert "self" not in parameters_of(method).types


async def test_all_errors_are_reported_together(rec: RecServer) -> None:
    with pytest.raises(InvalidInput) as refused:
        await rec.add_model_task("../t", model_id="", interval=float("nan"), overwrite="perhaps")  # type: ignore
    assert {error.loc for error in refused.value.errors} == {
        ("task_name",), ("model_id",), ("data_chef_id",), ("interval",), ("overwrite",),
    }  # fmt: skip
    assert all(error.loc[0] in str(refused.value) for error in refused.value.errors)
    with pytest.raises(InvalidInput) as refused:
        await rec.create_model("a", algorithm="nmf", hyperparameters={"solver": "x", "tpyo": 1, "max_iter": None})
    names = {error.loc for error in refused.value.errors}
    assert names == {("hyperparameters", name) for name in ("solver", "tpyo", "max_iter")}


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (ModelNotFound, lambda rec: rec.get_model_info("x")),
        (ModelNotFound, lambda rec: rec.delete_model("M", force=True)),
        (ModelNotFound, lambda rec: rec.recommend("u", model_id="x")),
        (ModelNotFound, lambda rec: rec.add_model_task("b", model_id="x", data_chef_id="c", interval=1)),
        (ModelNotTrained, lambda rec: rec.recommend("u", model_id="m")),
        (ModelExists, lambda rec: rec.create_model("M", algorithm="nmf")),
        (ModelInUse, lambda rec: rec.delete_model("m")),
        (DataChefNotFound, lambda rec: rec.delete_data_chef("x")),
        (DataChefNotFound, lambda rec: rec.add_model_task("b", model_id="m", data_chef_id="x", interval=1)),
        (DataChefExists, lambda rec: rec.create_data_chef_from_csv("C", file_path="r.csv")),
        (TaskNotFound, lambda rec: rec.remove_model_task("x")),
        (TaskNotFound, lambda rec: rec.update_task_interval("x", interval=1)),
        (TaskExists, lambda rec: rec.add_model_task("t", model_id="m", data_chef_id="c", interval=1)),
        (InvalidInput, lambda rec: rec.recommend("", model_id="m")),
        (InvalidInput, lambda rec: rec.create_model("\ud800", algorithm="nmf")),
        (InvalidInput, lambda rec: rec.create_model("a", algorithm="nmf", message="\ud800")),
        (InvalidInput, lambda rec: rec.create_model("a", algorithm="\ud800")),
        (InvalidInput, lambda rec: rec.create_data_chef_from_csv("a", file_path="\ud800")),
        (InvalidInput, lambda rec: rec.create_data_chef_from_csv("a", file_path="r", rename_columns="a->\ud800")),
        (InvalidInput, lambda rec: rec.create_data_chef_from_csv("a", file_path="r", rename_columns=object())),
        (InvalidInput, lambda rec: rec.create_data_chef_from_sql("a", query="SELECT 1", db_config={"a": Path()})),
    ],
)
async def test_refusals(rec: RecServer, kind: type[RecServerError], call: Callable[[RecServer], Any]) -> None:
    before = [await rec.list_models(), await rec.list_data_chefs(), await rec.list_tasks()]
    with pytest.raises(kind) as refused:
        await call(rec)
    assert type(refused.value) is kind and str(refused.value).endswith(".")
    assert [await rec.list_models(), await rec.list_data_chefs(), await rec.list_tasks()] == before


async def test_none_counts_as_absent(rec: RecServer) -> None:
    await rec.create_model("a", algorithm="nmf", model_name=None, hyperparameters=None, overwrite=None)  # type: ignore
    assert (await rec.get_model_info("a"))["model_name"] == "a"
    with pytest.raises(InvalidInput, match="algorithm: is missing"):
        await rec.create_model("b", algorithm=None)  # type: ignore[arg-type]


async def test_unknown_arguments_are_rejected(rec: RecServer) -> None:
    with pytest.raises(InvalidInput, match="tpyo"):
        await rec.create_model("a", algorithm="nmf", tpyo=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        await rec.remove_model_task("t", "u")  # type: ignore[call-arg]


async def test_a_closed_server_rejects_calls(
    data_dir: Path, settings: Settings, recwarn: pytest.WarningsRecorder
) -> None:
    rec = RecServer(data_dir, settings)
    for call in (rec.list_models(), rec.create_model("a", algorithm="nmf"), rec.recommend("u", model_id="m")):
        with pytest.raises(Draining):
            await call
    with pytest.raises(InvalidInput):
        await rec.create_model("..", algorithm="nmf")
    gc.collect()
    assert not [str(warning.message) for warning in recwarn]  # of coroutines that were never awaited


async def test_a_cancelled_call_changes_nothing(rec: RecServer) -> None:
    async with rec._services.write_lock:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await rec.create_model("a", algorithm="nmf")
    await rec.create_model("b", algorithm="nmf")
    assert set(await rec.list_models()) == {"b", "m"}
