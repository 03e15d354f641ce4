"""A running server whose files are changed manually, by other processes, or by disk errors."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from recserver import RecServer, Settings
from recserver._internal.core.errors import (
    DataChefExists,
    ModelNotFound,
    ModelNotTrained,
    ServerCannotStart,
    StorageUnreadable,
)
from recserver._internal.core.events import ModelServes, RunEnded, RunProgressed
from recserver._internal.results.base import plain
from recserver._internal.storage import model_file as artifact

ROWS = "user_id,item_id\nann,tea\nann,scone\nbob,tea\nbob,latte\n"


async def train(rec: RecServer, model_id: str = "m", **chef: Any) -> RunEnded:
    """Make a model, a chef and a task, and wait for the first training to end."""
    (rec.data_dir / "rows.csv").write_text(ROWS)
    await rec.create_model(model_id, algorithm="nmf", hyperparameters={"n_components": 2})
    await rec.create_data_chef_from_csv("c", **{"file_path": "rows.csv", **chef})
    with rec.events.listen() as events:
        await rec.add_model_task("t", model_id=model_id, data_chef_id="c", interval=86400)
        return await events.next(RunEnded)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its relative name."""
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


async def test_a_server_that_gets_no_port_touches_no_file(data_dir: Path) -> None:
    (data_dir / "models").mkdir(parents=True)
    (data_dir / "models/m_config.json").write_text('{"algorithm": "nmf", "status": "training"}')
    (data_dir / "models/.m.pkl.0123456789ab.tmp").write_text("of the server that runs")
    before = snapshot(data_dir)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        second = RecServer(data_dir, Settings(port=taken.getsockname()[1]))
        with pytest.raises(ServerCannotStart, match="Cannot listen"):
            async with second.serve():
                pass
    assert snapshot(data_dir) == before
    assert not second.is_open


async def test_only_own_temporary_files_are_removed(data_dir: Path, settings: Settings) -> None:
    (data_dir / "models").mkdir(parents=True)
    (data_dir / ".mine.tmp").write_text("keep")
    (data_dir / "models/.m.pkl.0123456789ab.tmp").write_text("litter")
    (data_dir / "models/.d.pkl.0123456789ab.tmp").mkdir()
    async with RecServer(data_dir, settings):
        assert (data_dir / ".mine.tmp").exists()
        assert not (data_dir / "models/.m.pkl.0123456789ab.tmp").exists()


async def test_a_model_file_that_is_overwritten_does_not_affect_responses(rec: RecServer) -> None:
    assert (await train(rec)).outcome == "completed"
    before = (await rec.recommend("ann", model_id="m"))["predictions"]
    path = rec.data_dir / "models/m.pkl"
    path.write_bytes(b"garbage")
    assert (await rec.recommend("ann", model_id="m"))["predictions"] == before
    await rec.restart_scheduler()
    assert (await rec.recommend("ann", model_id="m"))["predictions"] == before


async def test_a_transient_error_is_not_cached(rec: RecServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await train(rec)).outcome == "completed"
    rec._services.model_cache.remove("m")
    real = artifact.load

    def out_of_files(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(artifact, "load", out_of_files)
    with pytest.raises(ModelNotTrained):
        await rec.recommend("ann", model_id="m")
    monkeypatch.setattr(artifact, "load", real)
    assert (await rec.recommend("ann", model_id="m"))["source"] == "personal"


async def test_removed_models_are_unloaded_but_not_with_an_unmounted_folder(rec: RecServer) -> None:
    assert (await train(rec)).outcome == "completed"
    models = rec.data_dir / "models"
    models.rename(rec.data_dir / "elsewhere")
    models.mkdir()  # what a mount point shows when nothing is mounted
    await rec.restart_scheduler()
    assert (await rec.recommend("ann", model_id="m"))["source"] == "personal"
    models.rmdir()
    (rec.data_dir / "elsewhere").rename(models)
    await rec.restart_scheduler()
    for path in models.glob("*.*"):
        if path.is_file():
            path.unlink()
    await rec.restart_scheduler()
    with pytest.raises(ModelNotFound):
        await rec.recommend("ann", model_id="m")


async def test_models_with_unusual_ids_share_no_files(rec: RecServer) -> None:
    models = rec.data_dir / "models"
    for name in ("b_config.json", "b_config_config.json"):
        (models / name).write_text('{"algorithm": "nmf"}')
    assert list(await rec.list_models()) == ["b", "b_config"]
    deleted = await rec.delete_model("b_config")
    assert deleted["files_deleted"] == ["models/b_config_config.json"]
    assert list(await rec.list_models()) == ["b"]


async def test_a_chef_corrected_in_its_file_trains_at_once(rec: RecServer) -> None:
    assert (await train(rec, rename_columns="user_id->nobody")).outcome == "failed"
    path = rec.data_dir / "config/restaurant_data.yaml"
    with rec.events.listen() as events:
        path.write_text(path.read_text().replace("user_id->nobody", ""))
        assert (await events.next(RunEnded)).outcome == "completed"


async def test_a_task_given_another_model_by_its_file_trains_that_at_once(rec: RecServer) -> None:
    assert (await train(rec)).outcome == "completed"
    (rec.data_dir / "models/n_config.json").write_text('{"algorithm": "nmf"}')
    path = rec.data_dir / "tasks/t.json"
    with rec.events.listen() as events:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_id": "n"}))
        assert (await events.next(ModelServes)).model_id == "n"


async def test_a_full_disk_is_reported_and_loses_nothing(rec: RecServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await train(rec)).outcome == "completed"
    await rec.list_runs()  # answered once the history holds the run: nothing is written any more
    before = snapshot(rec.data_dir)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for attempt in (
        rec.create_model("n", algorithm="nmf"),
        rec.create_model("m", algorithm="nmf", overwrite=True),
        rec.create_data_chef_from_csv("d", file_path="rows.csv"),
        rec.create_data_chef_from_csv("c", file_path="other.csv", overwrite=True),
        rec.add_model_task("u", model_id="m", data_chef_id="c", interval=60),
        rec.update_task_interval("t", interval=60),
    ):
        with pytest.raises(StorageUnreadable, match="No space left"):
            await attempt
    assert snapshot(rec.data_dir) == before
    assert (await rec.recommend("ann", model_id="m"))["source"] == "personal"


@pytest.mark.parametrize("path", ["../${CANARY}", "${CANARY}", "/srv/${CANARY}/x.csv", "${CANARY}.csv"])
async def test_values_of_variables_are_not_exposed(
    rec: RecServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("CANARY", "hunter2-and-a-long-tail-" + "x" * 80)
    created = await rec.create_data_chef_from_csv("d", file_path=path)
    assert created["warnings"]
    ended = await train(rec, file_path=path)
    assert ended.outcome == "failed"
    with pytest.raises(DataChefExists):
        await rec.create_data_chef_from_csv("d", file_path=path)
    responses = json.dumps(plain([created, ended.error, await rec.list_data_chefs(), await rec.list_tasks()]))
    assert "hunter2" not in responses + str(snapshot(rec.data_dir))
    assert "${CANARY}" in str(ended.error)


@pytest.mark.slow
async def test_closing_ends_trainings_before_it_waits_for_slow_clients(data_dir: Path) -> None:
    rec = RecServer(data_dir, Settings(port=0, training_processes=1, shutdown_grace=3600))
    with rec.events.listen() as events:
        async with rec.serve() as url:
            many = "".join(f"u{user},i{item}\n" for user in range(400) for item in range(0, 2000, 7))
            (data_dir / "rows.csv").write_text("user_id,item_id\n" + many)
            await rec.create_model("m", algorithm="nmf", hyperparameters={"max_iter": 10_000, "tol": 0})
            await rec.create_data_chef_from_csv("c", file_path="rows.csv")
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
            writer.write(b"POST /create_model HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            await rec.add_model_task("t", model_id="m", data_chef_id="c", interval=3600)
            await events.next(RunProgressed, lambda event: event.stage == "evaluating")
            async with ClientSession(url) as http, http.get("/health") as response:
                assert response.status == 200  # so the half request has arrived as well

            async def hang_up_when_the_training_has_ended() -> None:
                assert (await events.next(RunEnded)).outcome == "stopped"
                writer.close()

            hanging_up = asyncio.create_task(hang_up_when_the_training_has_ended())
        await hanging_up
    assert json.loads((data_dir / "models/m_config.json").read_text())["status"] == "stopped"
