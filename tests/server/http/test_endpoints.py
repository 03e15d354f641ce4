"""Every endpoint: its parameters, responses, files and conflicts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from recserver._internal.algorithms.lookup import ALGORITHM_PATHS
from recserver._internal.core.clock import SystemClock
from recserver._internal.core.events import RunEnded, RunStarted
from recserver.testing import ScriptedExecutor
from tests.helpers.api_client import Api

pytestmark = pytest.mark.slow

CONFIG = {
    "model_id", "model_name", "message", "algorithm", "model_type", "hyperparameters", "created_at", "status",
    "model_path",
}  # fmt: skip
TRAINED = {"training_completed_at", "last_saved_at", "model_version", "model_metrics", "final_stats"}
SHOWN = {"model_file_exists", "loaded_in_memory", "needs_training"}
TASK = {
    "task_name", "model_id", "interactions_data_chef_id", "user_features_data_chef_id",
    "item_features_data_chef_id", "interval",
}  # fmt: skip
TASK_STATE = {"running", "last_run_at", "last_status", "last_error", "next_run_at"}
MODEL = {"model_id": "a", "algorithm": "nmf"}
CSV = {"data_chef_id": "rows", "file_path": "rows.csv"}

Snapshot = Callable[[], dict[str, bytes]]


def chef_file(api: Api) -> dict[str, Any]:
    """The data chefs as they stand on disk."""
    return dict(yaml.safe_load((api.rec.data_dir / "config" / "restaurant_data.yaml").read_text()))


async def test_available_algorithms_are_described(api: Api) -> None:
    for prefix in ("", "/api/v1"):
        answer = await api.ok("GET", f"{prefix}/get_available_algorithms")
        assert set(answer) == {"algorithms"}
        assert list(answer["algorithms"]) == list(ALGORITHM_PATHS)
        for name, one in answer["algorithms"].items():
            assert set(one) == {"algorithm", "model_type", "default_params", "description", "use_case"}
            assert (one["algorithm"], one["model_type"]) == (name, name.split("_fast")[0].split("_accurate")[0])
            assert all(one[key].endswith(".") for key in ("description", "use_case"))
            body = {"model_id": name, "algorithm": name, "hyperparameters": one["default_params"]}
            shown = await api.ok("POST", "/create_model", {**body, "overwrite": True})
            assert shown["hyperparameters"] == one["default_params"] and "warnings" not in shown


async def test_plug_ins_are_available_and_broken_ones_are_not_named(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "site" / "recserver_toys-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: recserver-toys\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[recserver.algorithms]\ntoy = recserver_toys:toy\nbroken = recserver_toys:absent\n"
    )
    (tmp_path / "site" / "recserver_toys.py").write_text(
        "from recserver._internal.algorithms.popular import Popular\n"
        "class Toy:\n"
        "    description = 'A toy.'\n"
        "    def __getattr__(self, name):\n"
        "        if name == 'use_case':\n"
        "            raise AttributeError(name)\n"
        "        return getattr(Popular(), name)\n"
        "toy = Toy()\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = (await api.ok("GET", "/get_available_algorithms"))["algorithms"]
    assert set(found) == {*ALGORITHM_PATHS, "toy"}
    assert (found["toy"]["description"], found["toy"]["use_case"]) == ("A toy.", "")


async def test_create_model(api: Api, trainings: ScriptedExecutor) -> None:
    asked = {"model_id": "my_model", "model_name": "My Recommendation Model", "algorithm": "nmf",
             "message": "Model description",
             "hyperparameters": {"n_components": 10.0, "max_iter": "200"}}  # fmt: skip
    answer = await api.ok("POST", "/create_model", asked)
    assert set(answer) == {"message", "model_id", "status", "algorithm", "model_type", "hyperparameters"}
    assert answer["hyperparameters"] == {"n_components": 10, "solver": "hals", "max_iter": 200}
    assert (answer["status"], answer["model_type"]) == ("initializing", "nmf")
    files = list((api.rec.data_dir / "models").iterdir())
    assert [file.name for file in files] == ["my_model_config.json"]
    config = json.loads(files[0].read_text())
    assert set(config) == CONFIG
    assert config["model_name"] == "My Recommendation Model" and config["message"] == "Model description"
    assert config["model_path"] == "models/my_model.pkl"
    assert trainings.started_count == 0


async def test_a_model_gets_defaults(api: Api) -> None:
    await api.ok("POST", "/create_model", {**MODEL, "model_name": None, "hyperparameters": None})
    shown = (await api.ok("GET", "/list_models"))["a"]
    assert set(shown) == CONFIG | SHOWN
    assert (shown["model_name"], shown["message"]) == ("a", "")
    assert shown["hyperparameters"] == {"n_components": 128, "solver": "hals", "max_iter": 200}
    assert (shown["model_file_exists"], shown["loaded_in_memory"], shown["needs_training"]) == (False, False, True)


@pytest.mark.parametrize("path", ["/get_model_info?model_id=m", "/get_model_info/m"])
async def test_get_model_info(trained: Api, path: str) -> None:
    info = await trained.ok("GET", path)
    assert set(info) >= CONFIG | TRAINED | SHOWN | {"in_training_state", "file_size_mb"}
    assert (info["status"], info["in_training_state"], info["needs_training"]) == ("completed", False, False)
    assert info["model_file_exists"] is info["loaded_in_memory"] is True
    assert isinstance(info["file_size_mb"], float) and round(info["file_size_mb"], 2) == info["file_size_mb"]
    assert (await trained.ok("GET", "/list_models"))["m"].items() <= info.items()


async def test_the_status_of_a_model_in_training(api: Api, trainings: ScriptedExecutor, trained: Api) -> None:
    await api.ok("POST", "/create_model", MODEL)
    await api.ok(
        "POST", "/add_model_task", {"task_name": "b", "model_id": "a", "data_chef_id": "c", "interval": 60}
    )
    training = await trainings.next()
    info = await api.ok("GET", "/get_model_info/a")
    assert (info["status"], info["in_training_state"]) == ("training", True)
    assert (await api.ok("GET", "/list_tasks"))["b"]["running"] is True
    busy = await api.post("/create_model", {**MODEL, "overwrite": True})
    assert (busy.status, busy.code) == (409, "model_busy")
    assert not training.cancelled


async def test_a_model_that_exists(api: Api, snapshot: Snapshot) -> None:
    await api.ok("POST", "/create_model", MODEL)
    before = snapshot()
    for body in (MODEL, {**MODEL, "model_id": "A"}, {**MODEL, "model_id": "A", "overwrite": True}):
        answer = await api.post("/create_model", body)
        assert (answer.status, answer.code) == (409, "model_exists"), body
    assert snapshot() == before


async def test_overwriting_a_model_is_deleting_and_creating_it(trained: Api, trainings: ScriptedExecutor) -> None:
    await trained.ok("POST", "/create_model", {"model_id": "m", "algorithm": "nmf_fast", "overwrite": True})
    info = await trained.ok("GET", "/get_model_info/m")
    assert (info["algorithm"], info["model_file_exists"], info["needs_training"]) == ("nmf_fast", False, True)
    assert "model_version" not in info and "training_completed_at" not in info
    assert (await trainings.next()).job.algorithm == "nmf_fast"  # its task is still there, and trains it at once


@pytest.mark.parametrize("form", ["/delete_model?model_id=m&force=", "/delete_model/m?force="])
async def test_delete_model(trained: Api, snapshot: Snapshot, form: str) -> None:
    before = snapshot()
    for path in (form.partition("&force" if "&" in form else "?force")[0], form + "false"):
        answer = await trained.ask("DELETE", path)
        assert (answer.status, answer.code) == (409, "model_in_use")
    assert snapshot() == before
    deleted = await trained.ok("DELETE", form + "true")
    assert set(deleted) == {"message", "model_id", "status", "files_deleted", "tasks_affected"}
    assert (deleted["model_id"], deleted["status"], deleted["tasks_affected"]) == ("m", "deleted", ["t"])
    assert sorted(deleted["files_deleted"]) == [
        "models/.versions/m/1.json", "models/.versions/m/1.pkl",
        "models/m.pkl", "models/m_config.json", "models/m_metadata.json",
    ]  # fmt: skip
    assert not list((trained.rec.data_dir / "models").iterdir())
    assert "t" in await trained.ok("GET", "/list_tasks")
    assert (await trained.ask("DELETE", form + "true")).code == "model_not_found"
    assert (await trained.get("/recommend?user_id=u0&model_id=m")).code == "model_not_found"


async def test_deleting_a_model_cancels_its_training(trained: Api, trainings: ScriptedExecutor) -> None:
    await trained.ok("POST", "/create_model", MODEL)
    task = {"task_name": "b", "model_id": "a", "data_chef_id": "c", "interval": 60}
    await trained.ok("POST", "/add_model_task", task)
    training = await trainings.next()
    assert (await trained.ok("DELETE", "/delete_model/a?force=TRUE"))["tasks_affected"] == ["b"]
    assert training.cancelled
    assert "a" not in await trained.ok("GET", "/list_models")
    assert not list((trained.rec.data_dir / "models").glob("a*"))


async def test_create_data_chefs(api: Api) -> None:
    sql = {"data_chef_id": "orders", "query": "SELECT * FROM orders", "rename_columns": {"customer": "user_id"},
           "db_config": {"type": "sqlite", "database": "shop.db"}}  # fmt: skip
    rest = {"data_chef_id": "shop", "url": "http://localhost:3500/rows", "paginated": True, "size_value": "50"}
    asked = {"csv": {**CSV, "rename_columns": " a->user_id , b:item_id "}, "sql": sql, "api": rest}
    for kind, body in asked.items():
        answer = await api.ok("POST", f"/create_data_chef_from_{kind}", body)
        assert set(answer) - {"warnings"} == {"message", "data_chef_id", "type"}
        assert (answer["data_chef_id"], answer["type"]) == (body["data_chef_id"], kind)
    entries = {
        "rows": {"type": "csv", "path": "rows.csv", "rename_columns": "a->user_id,b->item_id"},
        "orders": {"type": "sql", "query": "SELECT * FROM orders", "rename_columns": "customer->user_id",
                   "db_config": {"type": "sqlite", "database": "shop.db"}},
        "shop": {"type": "api", "url": "http://localhost:3500/rows", "paginated": True, "rename_columns": "",
                 "page_param": "page", "size_param": "size", "page_size": 50},
    }  # fmt: skip
    assert chef_file(api) == entries
    assert await api.ok("GET", "/list_data_chefs") == entries


async def test_missing_sources_are_warnings(api: Api) -> None:
    answer = await api.ok("POST", "/create_data_chef_from_csv", CSV)
    assert len(answer["warnings"]) == 1 and "rows.csv" in answer["warnings"][0]
    (api.rec.data_dir / "rows.csv").write_text("user_id,item_id\n")
    assert "warnings" not in await api.ok("POST", "/create_data_chef_from_csv", {**CSV, "overwrite": True})


async def test_a_data_chef_that_exists(api: Api, snapshot: Snapshot) -> None:
    await api.ok("POST", "/create_data_chef_from_csv", CSV)
    before = snapshot()
    rest = {"data_chef_id": "ROWS", "url": "http://localhost/", "overwrite": True}
    for path, body in (("csv", CSV), ("csv", {**CSV, "overwrite": "false"}), ("api", rest)):
        answer = await api.post(f"/create_data_chef_from_{path}", body)
        assert (answer.status, answer.code) == (409, "data_chef_exists"), body
    assert snapshot() == before
    await api.ok("POST", "/create_data_chef_from_api", {**rest, "data_chef_id": "rows"})
    assert chef_file(api)["rows"]["type"] == "api"


@pytest.mark.parametrize(
    "form", ["/delete_data_chef?data_chef_id=c", "/delete_data_chef/c", "/delete_data_chef?name=c"]
)
async def test_delete_data_chef(trained: Api, form: str) -> None:
    answer = await trained.ok("DELETE", form)
    assert set(answer) == {"message", "data_chef_id", "tasks_affected"}
    assert (answer["data_chef_id"], answer["tasks_affected"]) == ("c", ["t"])
    assert chef_file(trained) == {}
    assert (await trained.ask("DELETE", form)).code == "data_chef_not_found"


async def test_masked_secrets_are_restored(api: Api) -> None:
    config = {"type": "postgresql", "host": "db", "user": "u", "password": "canary-1", "database": "d"}
    body = {"data_chef_id": "s", "query": "SELECT 1", "db_config": config}
    rest = {"data_chef_id": "r", "url": "https://shop.example/rows?api_key=canary-2"}
    answers = [await api.ok("POST", "/create_data_chef_from_sql", body),
               await api.ok("POST", "/create_data_chef_from_api", rest),
               listed := await api.ok("GET", "/list_data_chefs")]  # fmt: skip
    assert "canary" not in json.dumps(answers)
    assert listed["s"]["db_config"] == config | {"password": "********"}
    assert listed["r"]["url"] == "https://shop.example/rows?api_key=********"
    again = {**body, "db_config": listed["s"]["db_config"], "overwrite": True}
    await api.ok("POST", "/create_data_chef_from_sql", again)
    assert chef_file(api)["s"]["db_config"] == config
    moved = {**again, "db_config": {**listed["s"]["db_config"], "host": "evil"}}
    answer = await api.post("/create_data_chef_from_sql", moved)
    assert (answer.status, answer.locs) == (422, [["body", "db_config", "password"]])


async def test_add_model_task(trained: Api, trainings: ScriptedExecutor) -> None:
    await trained.ok("POST", "/create_model", MODEL)
    asked = {"task_name": "b", "model_id": "a", "data_chef_id": "c", "interval": 10.0,
             "item_features_data_chef_id": "", "user_features_data_chef_id": None}  # fmt: skip
    answer = await trained.ok("POST", "/add_model_task", asked)
    assert set(answer) == {"message", "task_name", "scheduled", "next_run_at"}
    assert answer["scheduled"] is True and answer["next_run_at"].endswith("Z")
    content = json.loads((trained.rec.data_dir / "tasks" / "b.json").read_text())
    assert content == {"task_name": "b", "model_id": "a", "interactions_data_chef_id": "c", "interval": 10,
                       "user_features_data_chef_id": None, "item_features_data_chef_id": None}  # fmt: skip
    assert (await trainings.next()).job.model_id == "a"
    listed = await trained.ok("GET", "/list_tasks")
    assert set(listed) == {"b", "t"} and all(set(one) >= TASK | TASK_STATE for one in listed.values())
    assert listed["b"]["running"] is True and listed["t"]["running"] is False
    assert (listed["t"]["last_status"], listed["t"]["last_error"]) == ("completed", None)
    assert listed["t"]["last_run_at"] < listed["t"]["next_run_at"]


async def test_feature_chefs_are_stored_with_a_warning(trained: Api) -> None:
    asked = {"task_name": "f", "model_id": "m", "data_chef_id": "c", "interval": 60}
    chefs = "item_features_data_chef_id=c&user_features_data_chef_id=c"
    answer = await trained.ok("POST", f"/add_model_task?{chefs}", asked)
    assert len(answer["warnings"]) == 1
    task = (await trained.ok("GET", "/list_tasks"))["f"]
    assert (task["item_features_data_chef_id"], task["user_features_data_chef_id"]) == ("c", "c")


async def test_a_task_needs_its_model_and_chefs_and_a_free_name(trained: Api, snapshot: Snapshot) -> None:
    good = {"task_name": "b", "model_id": "m", "data_chef_id": "c", "interval": 60}
    before = snapshot()
    for change, status, code in (
        ({"model_id": "x"}, 404, "model_not_found"),
        ({"model_id": "M"}, 404, "model_not_found"),
        ({"data_chef_id": "x"}, 404, "data_chef_not_found"),
        ({"item_features_data_chef_id": "x"}, 404, "data_chef_not_found"),
        ({"user_features_data_chef_id": "x"}, 404, "data_chef_not_found"),
        ({"task_name": "t"}, 409, "task_exists"),
        ({"task_name": "T"}, 409, "task_exists"),
        ({"task_name": "T", "overwrite": True}, 409, "task_exists"),
    ):
        answer = await trained.post("/add_model_task", {**good, **change})
        assert (answer.status, answer.code) == (status, code), change
    assert snapshot() == before
    await trained.ok("POST", "/add_model_task", {**good, "task_name": "t", "overwrite": True})
    assert (await trained.ok("GET", "/list_tasks"))["t"]["interval"] == 60


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("where", ["query", "body"])
async def test_remove_model_task(trained: Api, method: str, where: str) -> None:
    path, body = (
        ("/remove_model_task?task_name=t", None)
        if where == "query"
        else ("/remove_model_task", {"task_name": "t"})
    )
    answer = await trained.ok(method, path, body)
    assert set(answer) == {"message", "task_name"} and answer["task_name"] == "t"
    assert await trained.ok("GET", "/list_tasks") == {}
    assert not list((trained.rec.data_dir / "tasks").iterdir())
    assert (await trained.ask(method, path, body)).code == "task_not_found"


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_update_task_interval(trained: Api, method: str) -> None:
    file = trained.rec.data_dir / "tasks" / "t.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"owner": "ops"}))
    answer = await trained.ok(method, "/update_task_interval", {"task_name": "t", "interval": 7200.5})
    assert set(answer) == {"message", "task_name", "interval", "next_run_at"}
    assert (answer["task_name"], answer["interval"]) == ("t", 7200.5)
    task = (await trained.ok("GET", "/list_tasks"))["t"]
    assert (task["interval"], task["next_run_at"][:19]) == (7200.5, answer["next_run_at"][:19])
    assert json.loads(file.read_text())["owner"] == "ops"
    missing = await trained.ask(method, "/update_task_interval", {"task_name": "T", "interval": 5})
    assert (missing.status, missing.code) == (404, "task_not_found")


@pytest.mark.parametrize("body", [None, {}, {"timeout": 30}, {"timeout": 0.5}])
async def test_stop_and_restart_the_scheduler(trained: Api, trainings: ScriptedExecutor, body: Any) -> None:
    running = {"data": {"is_running": True, "status": "running"}}
    assert await trained.ok("GET", "/get_scheduler_status") == running
    for _ in range(2):
        answer = await trained.ok("POST", "/stop_scheduler", body)
        assert set(answer) == {"message", "is_running", "stopped_models"}
        assert (answer["is_running"], answer["stopped_models"]) == (False, [])
        stopped = {"data": {"is_running": False, "status": "stopped"}}
        assert await trained.ok("GET", "/get_scheduler_status") == stopped
    assert (await trained.ok("GET", "/list_tasks"))["t"]["next_run_at"] is None
    task = {"task_name": "x", "model_id": "m", "data_chef_id": "c", "interval": 60}
    added = await trained.ok("POST", "/add_model_task", task)
    assert (added["scheduled"], added["next_run_at"]) == (False, None)
    await trained.ok("DELETE", "/delete_data_chef/c")
    for _ in range(2):
        answer = await trained.ok("POST", "/restart_scheduler", body)
        assert set(answer) == {"message", "is_running", "tasks_scheduled", "tasks_skipped"}
        assert (answer["is_running"], answer["tasks_scheduled"]) == (True, 0)
        assert set(answer["tasks_skipped"]) == {"t", "x"}
    assert await trained.ok("GET", "/get_scheduler_status") == running
    assert trainings.started_count == 1


async def test_stop_cancels_active_runs_unless_disabled(trained: Api, trainings: ScriptedExecutor) -> None:
    await trained.ok("POST", "/create_model", MODEL)
    with trained.rec.events.listen() as events:
        task = {"task_name": "b", "model_id": "a", "data_chef_id": "c", "interval": 60}
        await trained.ok("POST", "/add_model_task", task)
        await events.next(RunStarted)
        training = await trainings.next()
        answer = await trained.ok("POST", "/stop_scheduler", {"cancel_running": False})
        assert answer["stopped_models"] == [] and not training.cancelled
        answer = await trained.ok("POST", "/stop_scheduler")
        assert answer["stopped_models"] == ["a"] and training.cancelled
        assert (await events.next(RunEnded)).outcome == "stopped"
    assert (await trained.ok("GET", "/get_model_info/a"))["status"] == "stopped"


async def test_a_planned_run_is_planned_for_the_same_time_in_every_answer(
    trained: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    jitter = itertools.cycle(timedelta(milliseconds=one) for one in range(5))
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + next(jitter))
    planned = {(await trained.ok("GET", "/list_tasks"))["t"]["next_run_at"] for _ in range(10)}
    assert len(planned) == 1


async def test_every_answer_ends_with_a_line_end(trained: Api) -> None:
    """So that a terminal's prompt stands in a line of its own."""
    for path, status in (
        ("/health", 200),
        ("/recommend?user_id=u0&model_id=m", 200),
        ("/get_model_info/none", 404),
    ):
        async with aiohttp.request("GET", trained.url + path) as response:
            assert response.status == status
            assert (await response.read()).endswith(b"}\n")
