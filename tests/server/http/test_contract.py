"""The conventions of all endpoints, and the behaviour that known clients rely on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from recserver import RecServer, Settings
from recserver._internal.algorithms.lookup import ALGORITHM_PATHS, load_algorithm
from recserver._internal.core.events import RunEnded
from recserver._internal.server.http.routes import PREFIXES
from recserver.testing import ScriptedExecutor
from tests.helpers.api_client import Api, Serve

pytestmark = pytest.mark.process

MODEL = {"model_id": "a", "algorithm": "nmf"}


@pytest.mark.slow
async def test_the_whole_workflow(
    serve: Serve, data_dir: Any, settings: Settings, subtests: pytest.Subtests
) -> None:
    rows = [
        {"user_id": f"u{u}", "item_id": i, "rating": 5, "timestamp": 1} for u in range(9) for i in range(u % 3, 6)
    ]

    async def interactions(_: web.Request) -> web.Response:
        return web.json_response(rows + rows[:5])  # one line, pairs repeated

    shop = web.Application()
    shop.router.add_get("/api/training/interactions", interactions)
    async with TestServer(shop) as source:
        rec = RecServer(data_dir, settings)  # with a worker process
        api = await serve(rec)
        url = str(source.make_url("/api/training/interactions"))
        for prefix in PREFIXES:
            with subtests.test(prefix=prefix):
                await the_whole_workflow(api, prefix, url, f"model{len(prefix)}")


async def the_whole_workflow(api: Api, prefix: str, url: str, name: str) -> None:
    """From a new model, chef and task of this name to a recommendation."""
    model = {"model_id": name, "model_name": "My Recommendation Model", "algorithm": "nmf",
             "message": "Model", "hyperparameters": {"n_components": 2, "max_iter": 20}}  # fmt: skip
    await api.ok("POST", f"{prefix}/create_model", model)
    chef = {"data_chef_id": name, "url": url, "rename_columns": ""}
    await api.ok("POST", f"{prefix}/create_data_chef_from_api", chef)
    task = {"task_name": name, "model_id": name, "data_chef_id": name, "interval": 3600}
    with api.rec.events.listen() as events:
        await api.ok("POST", f"{prefix}/add_model_task", task)
        await api.ok("POST", f"{prefix}/restart_scheduler")
        ended = await events.next(RunEnded)
        assert (ended.model_id, ended.error) == (name, None)
    info = await api.ok("GET", f"{prefix}/get_model_info?model_id={name}")
    assert (info["status"], info["model_version"]) == ("completed", 1)
    assert (info["final_stats"]["total_interactions"], info["model_metrics"]["n_interactions"]) == (50, 45)
    assert all(isinstance(info["model_metrics"][metric], int | float) for metric in ("training_time", "sparsity"))
    answer = await api.ok("GET", f"{prefix}/recommend?user_id=u1&model_id={name}&n=10")
    assert [item["item_id"] for item in answer["predictions"]["u1"]] == ["0"]


async def test_recommend(trained: Api) -> None:
    answer = await trained.ok("GET", "/recommend?user_id=u1&model_id=m&task_name=t&n=1")
    assert set(answer) == {
        "model_id", "user_id", "predictions", "datetime", "status", "n_recommendations", "source", "model_version",
    }  # fmt: skip
    assert answer["predictions"] == {"u1": [{"item_id": "i2", "score": pytest.approx(2 / 3)}]}
    assert (answer["model_id"], answer["user_id"], answer["status"]) == ("m", "u1", "completed")
    assert (answer["n_recommendations"], answer["source"], answer["model_version"]) == (1, "personal", 1)
    seen = await trained.ok("GET", "/recommend/u1/m?exclude_seen=False")
    assert [item["item_id"] for item in seen["predictions"]["u1"]] == ["i0", "i1", "i2", "i3"]
    unknown = await trained.ok("POST", "/recommend", {"user_id": "new", "model_id": "m", "n": "2"})
    assert (unknown["source"], unknown["n_recommendations"]) == ("popular", 2)
    assert unknown["predictions"]["new"][0]["item_id"] == "i0"
    nothing = await trained.ok("GET", "/recommend/new/m/5?fallback=0")
    assert (nothing["source"], nothing["predictions"], nothing["n_recommendations"]) == (None, {"new": []}, 0)


async def test_a_missing_or_untrained_model_is_never_a_success(trained: Api, trainings: ScriptedExecutor) -> None:
    for path in ("/recommend/u/x/5", "/recommend?user_id=u&model_id=M"):
        answer = await trained.get(path)
        assert (answer.status, answer.code) == (404, "model_not_found")
    await trained.ok("POST", "/create_model", MODEL)
    assert (await trained.get("/recommend/u/a")).code == "model_not_trained"
    with trained.rec.events.listen() as events:
        task = {"task_name": "b", "model_id": "a", "data_chef_id": "c", "interval": 3600}
        await trained.ok("POST", "/add_model_task", task)
        (await trainings.next()).fail("The shop is closed on Sundays.")
        assert (await events.next(RunEnded)).outcome == "failed"
    answer = await trained.get("/recommend/u/a")
    assert (answer.status, answer.code) == (409, "model_not_trained")
    assert "The shop is closed on Sundays." in answer.body["detail"]
    assert (await trained.ok("GET", "/list_tasks"))["b"]["last_error"] == "The shop is closed on Sundays."


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("/recommend/a%2Fb/m/2", "a/b"),
        ("/recommend/a%2fb/m", "a/b"),
        ("/recommend/a%252Fb/m", "a%2Fb"),
        ("/recommend/%E2%82%AC%20/m/3", "€ "),
        ("/recommend/a+b/m", "a+b"),
        ("/recommend/%7Bx%7D/m/1", "{x}"),
        ("/recommend/%2E%2E/m", ".."),
        ("/recommend/a%0Ab/m", "a\nb"),
        ("/recommend?user_id=a%2Bb+c%252F&model_id=m", "a+b c%2F"),
        ("/recommend/%3Cimg%20src=x%20onerror=alert(1)%3E/m", "<img src=x onerror=alert(1)>"),
    ],
)
async def test_paths_and_queries_are_decoded_once(trained: Api, path: str, user: str) -> None:
    for prefix in PREFIXES:
        answer = await trained.ok("GET", prefix + path)
        assert answer["user_id"] == user and list(answer["predictions"]) == [user]


async def test_ids_of_manually_created_files_are_accepted_everywhere(api: Api) -> None:
    file = api.rec.data_dir / "models" / "Größe 1{x}%2F_config.json"
    for path in ("/{}?model_id=" + "Gr%C3%B6%C3%9Fe%201%7Bx%7D%252F", "/{}/Gr%C3%B6%C3%9Fe%201%7Bx%7D%252F"):
        file.write_text('{"algorithm": "nmf"}')
        assert (await api.ok("GET", path.format("get_model_info")))["model_id"] == "Größe 1{x}%2F"
        assert (await api.ok("DELETE", path.format("delete_model")))["files_deleted"] == [f"models/{file.name}"]


async def test_whole_numbers_in_all_their_forms(trained: Api) -> None:
    for n in (2, 2.0, "2", 2e0):
        answer = await trained.ok("POST", "/recommend", {"user_id": "u0", "model_id": "m", "n": n})
        assert answer["n_recommendations"] == 2
    for n in ("1", "1000"):
        await trained.ok("GET", f"/recommend/u0/m/{n}")
        await trained.ok("GET", f"/recommend?user_id=u0&model_id=m&n={n}")
    assert (await trained.post("/recommend", {"user_id": "u0", "model_id": "m", "n": 1001})).status == 422
    for user, text in ((42, "42"), (42.0, "42"), (-7, "-7"), (1.5, "1.5"), (2**70, str(2**70))):
        answer = await trained.ok("POST", "/recommend", {"user_id": user, "model_id": "m"})
        assert list(answer["predictions"]) == [answer["user_id"]] == [text]


@pytest.mark.parametrize(
    ("text", "items"), [("true", 3), ("TRUE", 3), ("1", 3), ("false", 4), ("False", 4), ("0", 4)]
)
async def test_booleans_in_a_query(trained: Api, text: str, items: int) -> None:
    answer = await trained.ok("GET", f"/recommend/u0/m?exclude_seen={text}")
    assert answer["n_recommendations"] == items


@pytest.mark.parametrize("text", ["", "yes", "2", "01", "null", " true"])
async def test_other_booleans_are_refused(trained: Api, text: str) -> None:
    answer = await trained.get(f"/recommend/u0/m?exclude_seen={text.replace(' ', '%20')}")
    assert (answer.status, answer.locs) == (422, [["query", "exclude_seen"]])


@pytest.mark.parametrize("body", [b"", b" \r\n", b"null", b"{}", None])
async def test_no_body_is_an_empty_one(api: Api, body: bytes | None) -> None:
    for path in ("/restart_scheduler", "/stop_scheduler"):
        assert (await api.ask("POST", path, raw=body)).status == 200
    answer = await api.ask("POST", "/create_model", raw=body)
    assert (answer.status, answer.locs) == (422, [["body", "model_id"], ["body", "algorithm"]])


async def test_a_body_that_is_not_an_object(api: Api) -> None:
    for body in (b"[]", b"1", b'"x"', b"true", b'[{"model_id":"a"}]'):
        answer = await api.ask("POST", "/create_model", raw=body)
        assert (answer.status, answer.locs) == (422, [["body"]]), body


async def test_unknown_fields_are_listed_or_ignored(api: Api) -> None:
    answer = await api.ok("POST", "/create_model?overwrite=perhaps&x=y", {**MODEL, "modle_name": 1, "x\ny": None})
    assert len(answer["warnings"]) == 2
    assert "modle_name" in answer["warnings"][0] and "\n" not in answer["warnings"][1]
    many = await api.ok("POST", "/restart_scheduler", {f"field{number}": number for number in range(30_000)})
    assert 2 <= len(many["warnings"]) <= 30 and "29980" in many["warnings"][-1]
    answer = await api.ok("POST", "/create_model", {"model_id": "b", "algorithm": "nmf",
                                                    "hyperparameters": {"batch_size": 64}})  # fmt: skip
    assert "batch_size" in answer["warnings"][0] and "batch_size" not in answer["hyperparameters"]


async def test_ids_are_read_from_path_query_or_body(trained: Api) -> None:
    for path, body in (
        ("/get_model_info", {"model_id": "m"}),
        ("/get_model_info?model_id=m", {"model_id": "m"}),
        ("/get_model_info/m?model_id=m&model_id=m", {"model_id": "m"}),
        ("/recommend/u0/m", {"user_id": "u0"}),
        ("/recommend/42/m", {"user_id": 42}),
        ("/recommend?user_id=u0", {"model_id": "m", "n": 2}),
    ):
        await trained.ok("GET", path, body)
    await trained.ok("POST", "/recommend?user_id=u0&model_id=m", {"n": 2})
    await trained.ok("POST", "/create_model?model_id=a", {"algorithm": "nmf"})
    await trained.ok("POST", "/create_data_chef_from_csv?data_chef_id=d", {"file_path": "rows.csv"})
    await trained.ok("POST", "/add_model_task?task_name=b&model_id=m&data_chef_id=d", {"interval": 60})
    await trained.ok("PUT", "/update_task_interval?task_name=b", {"interval": 61})
    await trained.ok("DELETE", "/remove_model_task", {"task_name": "b"})
    await trained.ok("DELETE", "/delete_data_chef", {"name": "d"})
    await trained.ok("DELETE", "/delete_model", {"model_id": "a"})


async def test_contradicting_ids_are_rejected(trained: Api, snapshot: Callable[[], dict[str, bytes]]) -> None:
    before = snapshot()
    for method, path, body, loc in (
        ("GET", "/get_model_info/m?model_id=x", None, ["query", "model_id"]),
        ("GET", "/get_model_info?model_id=m&model_id=x", None, ["query", "model_id"]),
        ("GET", "/get_model_info?model_id=m", {"model_id": "x"}, ["body", "model_id"]),
        ("DELETE", "/delete_model/m?force=true", {"model_id": "x"}, ["body", "model_id"]),
        ("DELETE", "/delete_data_chef/c?name=x", None, ["query", "name"]),
        ("DELETE", "/remove_model_task?task_name=t", {"task_name": "T"}, ["body", "task_name"]),
        ("PUT", "/update_task_interval?task_name=t", {"task_name": "x", "interval": 9}, ["body", "task_name"]),
        ("POST", "/create_data_chef_from_csv", {"name": "x", "data_chef_id": "y", "path": "r"},
         ["body", "data_chef_id"]),
        ("POST", "/create_data_chef_from_csv", {"name": "x", "path": "r", "file_path": "s"},
         ["body", "file_path"]),
        ("POST", "/create_data_chef_from_api", {"name": "x", "url": "http://a", "api_endpoint": "http://b"},
         ["body", "api_endpoint"]),
        ("POST", "/add_model_task", {"task_name": "b", "model_id": "m", "data_chef_id": "c", "interval": 9,
                                     "interactions_data_chef_id": "x"}, ["body", "interactions_data_chef_id"]),
        ("GET", "/recommend/1/m", {"user_id": True}, ["body", "user_id"]),
        ("GET", "/recommend/u0/m/5?n=6", None, ["query", "n"]),
    ):  # fmt: skip
        answer = await trained.ask(method, path, body)
        assert (answer.status, answer.locs) == (422, [loc]), f"{method} {path} {body}"
    assert snapshot() == before


async def test_aliases(trained: Api) -> None:
    await trained.ok("POST", "/create_data_chef_from_csv", {"name": "x", "path": "rows.csv"})
    await trained.ok(
        "POST", "/create_data_chef_from_csv", {"name": "y", "data_chef_id": "y", "path": "r", "file_path": "r"}
    )
    await trained.ok(
        "POST", "/create_data_chef_from_sql", {"name": "q", "query": "SELECT 1", "data_chef_id": None}
    )
    await trained.ok("POST", "/create_data_chef_from_api", {"name": "z", "api_endpoint": "http://localhost/"})
    task = {"task_name": "b", "model_id": "m", "interactions_data_chef_id": "x", "interval": 60}
    await trained.ok("POST", "/add_model_task", task)
    assert (await trained.ok("GET", "/list_tasks"))["b"]["interactions_data_chef_id"] == "x"
    assert {"x", "y", "q", "z"} <= set(await trained.ok("GET", "/list_data_chefs"))


async def test_lists_are_objects_by_id(api: Api, trained: Api) -> None:
    for model in (await api.ok("GET", "/api/v1/list_models")).values():
        for key in ("model_id", "model_name", "algorithm", "model_type", "status", "created_at"):
            assert isinstance(model[key], str) and model[key]
    for task in (await api.ok("GET", "/api/v1/list_tasks")).values():
        assert not {"name", "status"} & set(task)
    for chef in (await api.ok("GET", "/api/v1/list_data_chefs")).values():
        assert isinstance(chef["type"], str)


async def test_lists_of_an_empty_server(api: Api) -> None:
    for what in ("models", "tasks", "data_chefs"):
        assert await api.ok("GET", f"/list_{what}") == {}
    assert await api.ok("GET", "/health") == {"status": "ok"}


@pytest.mark.parametrize("name", ALGORITHM_PATHS)
async def test_default_params_can_be_sent_back(api: Api, name: str) -> None:
    defaults = load_algorithm(name).default_params
    answer = await api.ok("POST", "/create_model", {**MODEL, "algorithm": name, "hyperparameters": defaults})
    assert answer["hyperparameters"] == json.loads(json.dumps(defaults)) and "warnings" not in answer


async def test_concurrent_changes_are_not_lost(api: Api) -> None:
    async def life(number: int) -> None:
        model, chef = f"m{number}", f"c{number}"
        await api.ok("POST", "/create_model", {**MODEL, "model_id": model})
        await api.ok("POST", "/create_data_chef_from_csv", {"name": chef, "path": "rows.csv"})
        if number % 2:
            await api.ok("DELETE", f"/delete_model/{model}")
            await api.ok("DELETE", f"/delete_data_chef/{chef}")

    async def look() -> None:
        for _ in range(10):
            for what in ("models", "data_chefs", "tasks"):
                await api.ok("GET", f"/list_{what}")

    one = [api.post("/create_model", {**MODEL, "model_id": "only"}) for _ in range(5)]
    *answers, _, _ = await asyncio.gather(*one, asyncio.gather(*map(life, range(20))), look())
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409]
    assert set(await api.ok("GET", "/list_models")) == {"only", *(f"m{number}" for number in range(0, 20, 2))}
    assert set(await api.ok("GET", "/list_data_chefs")) == {f"c{number}" for number in range(0, 20, 2)}


async def test_invalid_files_break_no_list(trained: Api) -> None:
    data = trained.rec.data_dir
    yaml = data / "config" / "restaurant_data.yaml"
    yaml.write_text(
        "7: {type: csv, path: 5, since: 2024-01-01, n: .nan, 2024-01-01: x}\n"
        "q: 3\n"
        "z: {type: CSV, path: rows.csv}\n"
    )
    (data / "tasks" / "odd.json").write_text('{"model_id": 5, "interval": [1], "interactions_data_chef_id": null}')
    (data / "tasks" / "worse.json").write_text("{")
    (data / "models" / "odd_config.json").write_text('{"algorithm": ["x"], "status": 7, "hyperparameters": 3}')
    (data / "models" / "worse_config.json").write_text("[1]")
    (data / "models" / "older.json").write_text('{"type": "nmf_fast", "note": {"a": [1]}}')
    chefs = await trained.ok("GET", "/list_data_chefs")
    assert set(chefs) == {"7", "q", "z"} and chefs["7"]["error"] and chefs["q"]["error"]
    assert "error" not in chefs["z"] and chefs["z"]["type"] == "csv"
    tasks = await trained.ok("GET", "/list_tasks")
    assert set(tasks) == {"t", "odd", "worse"} and tasks["odd"]["last_error"] and tasks["worse"]["last_error"]
    models = await trained.ok("GET", "/list_models")
    assert models["worse"]["status"] == models["odd"]["status"] == "failed" and models["worse"]["error"]
    assert (models["older"]["model_name"], models["older"]["algorithm"]) == ("older", "nmf_fast")
    assert (await trained.ask("PUT", "/update_task_interval", {"task_name": "worse", "interval": 9})).status == 422
    yaml.write_text("a: [")
    for method, path, body in (
        ("GET", "/list_data_chefs", None),
        ("POST", "/create_data_chef_from_csv", {"name": "x", "path": "rows.csv"}),
        ("DELETE", "/delete_data_chef/c", None),
    ):
        answer = await trained.ask(method, path, body)
        assert (answer.status, answer.code) == (503, "storage_unreadable"), path
    assert yaml.read_text() == "a: ["
