"""The OpenAPI document: valid, complete, and true. All responses to other tests are checked against it, too."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

import jsonschema_rs
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from openapi_spec_validator import validate
from yarl import URL

from recserver import RecServer, RecServerError
from recserver._internal.core import errors
from recserver._internal.core.events import RunEnded
from recserver._internal.server.http.openapi.schemas import is_streamed
from recserver._internal.server.http.routes import PREFIXES, ROUTES, Route
from recserver._internal.server.service import Service
from tests.helpers.api_client import Api
from tests.helpers.openapi import DOCUMENT

NOT_OPERATIONS = {"/openapi.json", "/docs", "/docs/{file}"}
"""Routes that show the document."""

NEVER_SENT = {"internal_error", "training_failed", "source_unchanged", "worker_died", "cannot_start", "forbidden"}
"""Codes of errors that no response has, or that are described for every route."""

FIRST = (
    "health", "get_available_algorithms", "create_data_chef_from_csv", "create_model", "add_model_task",
)  # fmt: skip
LAST = "stop_training", "stop_scheduler", "remove_model_task", "delete_data_chef", "delete_model"

ONCE = {route.operation: route for route in reversed(ROUTES)}


def documented() -> list[tuple[str, str, Mapping[str, Any]]]:
    """Method, path and description of every documented operation."""
    return [
        (method.upper(), path, one)
        for path, methods in DOCUMENT["paths"].items()
        for method, one in methods.items()
    ]


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)
    names = [one["operationId"] for _, _, one in documented()]
    assert len(names) == len(set(names))


async def test_every_route_is_documented(api: Api) -> None:
    routes = {
        (route.method, route.resource.canonical)
        for route in api.rec.web_app().router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    bare = {
        (method, path)
        for method, path in routes
        if not path.startswith(PREFIXES[1]) and path not in NOT_OPERATIONS
    }
    assert bare == {(method, path) for method, path, _ in documented()}
    assert {(method, path) for method, path in routes if path.startswith(PREFIXES[1])} == {
        (method, PREFIXES[1] + path) for method, path in routes if not path.startswith(PREFIXES[1])
    }


def test_everything_has_a_description() -> None:
    for method, path, one in documented():
        assert one["summary"] and one["tags"] and one["x-scope"], path
        for parameter in one.get("parameters", ()):
            assert parameter["description"], (method, path, parameter["name"])
        if "requestBody" in one:
            (content,) = one["requestBody"]["content"].values()
            for name, schema in content["schema"]["properties"].items():
                assert schema["description"], (method, path, name)


@pytest.mark.parametrize("operation", ONCE)
def test_docstrings_name_every_argument(operation: str) -> None:
    function = getattr(Service, operation)
    text, own = function.__doc__, set(function.__wrapped__.__annotations__) - {"return"}
    for name in own:
        assert f"            {name}: " in text, f"{operation} does not describe {name}"


def test_every_code_is_documented_with_its_status() -> None:
    found = {
        (int(status), code)
        for _, _, one in documented()
        for status, response in one["responses"].items()
        if status != "200"
        for code in codes_of(response)
    }
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RecServerError)]
    sent = {(kind.status, kind.code) for kind in kinds if kind.code not in NEVER_SENT}
    beside = {(404, "route_not_found"), (405, "method_not_allowed")}  # of requests without a documented route
    assert sent - beside == found - {(500, "internal_error")}


def codes_of(response: Mapping[str, Any]) -> list[str]:
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    codes: list[str] = response["content"]["application/json"]["schema"]["allOf"][1]["properties"]["code"]["enum"]
    return codes


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.parameters.types], ids=lambda one: f"{one.method} {one.path}"
)
def test_every_example_is_valid(route: Route) -> None:
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    components = {"components": DOCUMENT["components"]}
    shown = {one["name"]: one["example"] for one in operation.get("parameters", ()) if "example" in one}
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in shown:
            jsonschema_rs.validate(parameter["schema"] | components, shown[parameter["name"]])
        assert parameter["name"] in shown or not parameter["required"], parameter["name"]
    if "requestBody" in operation:
        (content,) = operation["requestBody"]["content"].values()
        jsonschema_rs.validate(content["schema"] | components, content.get("example", {}))


async def send_example(api: Api, route: Route, **values: Any) -> Any:
    """The response to the example of an operation, which must be 200; it is checked against the document."""
    arguments = {**route.traits.example, **values}
    if is_streamed(route.operation):
        return await api.lines(route.path, arguments)
    if route.method == "POST":
        return await api.ok("POST", route.path, arguments)
    query = "&".join(f"{name}={json.dumps(value).strip(chr(34))}" for name, value in arguments.items())
    return await api.ok(route.method, f"{route.path}?{query}")


@pytest.mark.process
@pytest.mark.slow
async def test_every_example_works(cafe: Api) -> None:
    """In an order that prepares what they need; the id of a run is a real one instead of the example's."""
    with cafe.rec.events.listen() as events:
        for name in FIRST:
            await send_example(cafe, ONCE[name])
        await events.next(RunEnded)
        run = await send_example(cafe, ONCE["run_task"])
        await events.next(RunEnded)
    await send_example(cafe, ONCE["rollback_model"])
    rest = [name for name in ONCE if name not in (*FIRST, *LAST, "run_task", "rollback_model")]
    for name in rest:
        await send_example(cafe, ONCE[name], **({"run_id": run["run_id"]} if name == "get_run" else {}))
    for name in LAST:
        await send_example(cafe, ONCE[name])
    assert await asyncio.to_thread((cafe.rec.data_dir / "exports" / "top.csv").exists)


async def test_the_document_is_served_under_every_prefix(rec: RecServer) -> None:
    """Its server is its own folder, so that it is true in a host application, too."""
    host = web.Application()
    host.add_subapp("/rec", rec.web_app())
    async with TestServer(host) as server, ClientSession(server.make_url("/")) as client:
        for prefix in ("/rec", "/rec/api/v1"):
            async with client.get(f"{prefix}/openapi.json") as response:
                assert response.status == 200 and response.content_type == "application/json"
                document = await response.json()
            assert document == json.loads(json.dumps(DOCUMENT))
            health = response.url.join(URL(document["servers"][0]["url"])) / "health"
            assert health.path == f"{prefix}/health"


async def test_the_page_needs_no_other_site(api: Api) -> None:
    async with ClientSession(api.url) as client:
        for prefix in PREFIXES:
            async with client.get(f"{prefix}/docs") as response:
                page, policy = await response.text(), response.headers["Content-Security-Policy"]
            assert response.status == 200 and "script-src 'self';" in policy and "//" not in page
            addresses = re.findall(r'(?:src|href)="([^":]+)"', page)
            assert len(addresses) == 3
            for address in addresses:
                async with client.get(response.url.join(URL(address))) as file:
                    assert file.status == 200 and len(await file.read()) > 100
    assert (await api.get("/docs/other.js")).code == "route_not_found"


def test_required_fields_are_required() -> None:
    for operation, field in (
        ("create_data_chef_from_csv", "file_path"), ("create_data_chef_from_sql", "query"),
        ("create_data_chef_from_api", "url"), ("create_model", "algorithm"),
    ):  # fmt: skip
        (content,) = DOCUMENT["paths"][f"/{operation}"]["post"]["requestBody"]["content"].values()
        assert field in content["schema"]["required"], operation
    for name in ("RunRecord", "RunSummary", "TrainingState"):
        schema = DOCUMENT["components"]["schemas"][name]
        assert set(schema["required"]) == set(schema["properties"]), name
