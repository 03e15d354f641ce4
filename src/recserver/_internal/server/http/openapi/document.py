"""The OpenAPI 3.1 document of all routes."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from recserver._internal.server.http.openapi.docstrings import Description, describe
from recserver._internal.server.http.openapi.error_responses import common_responses, error_responses
from recserver._internal.server.http.openapi.schemas import Schema, Schemas, is_streamed, schemas_of
from recserver._internal.server.http.routes import GROUPS, ROUTES, Route
from recserver._internal.server.service import Service

JSON, NDJSON = "application/json", "application/x-ndjson"

DESCRIPTION = """\
Trains recommendation models from your own data on a schedule, and serves them.

Every path is served under `/api/v1` too. Ids of models, data chefs, tasks, users and items may be given in the
query of any request. Unknown fields of a body are ignored and named in `warnings`. Times are UTC."""

EVENTS: Schema = {
    "operationId": "events",
    "tags": ["Runs"],
    "summary": "All events from now on, as server-sent events",
    "description": "Each event has a name, such as `run_started` or `run_ended`, and a JSON object.",
    "x-scope": "read",
    "parameters": [
        {"name": "task_name", "in": "query", "schema": {"type": "string"}, "description": "Only events of it."},
        {"name": "model_id", "in": "query", "schema": {"type": "string"}, "description": "Only events of it."},
    ],
    "responses": {
        "200": {
            "description": "A stream that the client ends.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **error_responses({}, makes_changes=False),
    },
}


def openapi_document() -> Schema:
    """The document, as JSON. Its ``servers`` are relative to its own address."""
    schemas = schemas_of(ROUTES)
    paths: dict[str, Schema] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    paths["/events"] = {"get": EVENTS}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "recserver",
            "version": version("recserver"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ".", "description": "The folder of this document"}],
        "tags": [{"name": group.tag, "description": group.__doc__} for group in GROUPS],
        "security": [{"api_key": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": common_responses(),
            "securitySchemes": {
                "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(route: Route, schemas: Schemas) -> Schema:
    """The description of one method of one path."""
    function = getattr(Service, route.operation)
    description = describe(function, route.parameters.options)
    in_body = route.method in ("POST", "PUT")
    content_type = NDJSON if is_streamed(route.operation) else JSON
    operation: Schema = {
        "operationId": _operation_id(route),
        "tags": [_tag(route.operation)],
        "summary": description.summary,
        "x-scope": route.traits.scope,
        "responses": {
            "200": {
                "description": "One JSON object a line." if content_type == NDJSON else "Success.",
                "content": {content_type: {"schema": schemas.results[route.operation]}},
            },
            **error_responses(description.errors, makes_changes=route.traits.changes is not None),
        },
    }
    if description.details:
        operation["description"] = description.details
    if route.traits.scope == "open":
        operation["security"] = []
    if parameters := list(_parameters(route, schemas, description, in_body)):
        operation["parameters"] = parameters
    if in_body:
        operation["requestBody"] = _body(route, schemas, description)
    return operation


def _operation_id(route: Route) -> str:
    """A unique name: that of the operation, for its first method and its path without parameters."""
    method = "" if route.method == route.traits.methods[0] else f"_by_{route.method.lower()}"
    names = [part.strip("{}") for part in route.path.split("/") if part.startswith("{")]
    return route.operation + method + (f"_by_path_{'_'.join(names)}" if names else "")


def _tag(operation: str) -> str:
    return next(group.tag for group in GROUPS if operation in vars(group))


def _parameters(route: Route, schemas: Schemas, description: Description, in_body: bool) -> Iterable[Schema]:
    """The parameters in the path, and those in the query of a method without a body."""
    for name, schema in schemas.arguments[route.operation].items():
        in_path = f"{{{name}}}" in route.path
        if in_body and not in_path:
            continue
        parameter: Schema = {
            "name": name,
            "in": "path" if in_path else "query",
            "required": in_path or name in route.parameters.required,
            "description": _field_description(route, name, description),
            "schema": _text_schema(schema, name in route.list_fields),
        }
        if name in route.traits.example:
            parameter["example"] = route.traits.example[name]
        yield parameter


def _text_schema(schema: Schema, is_list: bool) -> Schema:
    """The schema of a value in a query or path, which is neither null nor an object."""
    if is_list:
        return {"type": "array", "items": {"type": "string"}}
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    return options[0] if len(options) == 1 else {"anyOf": options}


def _body(route: Route, schemas: Schemas, description: Description) -> Schema:
    properties = {
        name: schema | {"description": _field_description(route, name, description)}
        for name, schema in schemas.arguments[route.operation].items()
    }
    schema: Schema = {"type": "object", "properties": properties}
    if required := sorted(route.parameters.required):
        schema["required"] = required
    content: Schema = {"schema": schema}
    if route.traits.example:
        content["example"] = dict(route.traits.example)
    return {"required": bool(required), "content": {JSON: content}}


def _field_description(route: Route, name: str, description: Description) -> str:
    text = description.arguments.get(name, "")
    aliases = [f"`{alias}`" for alias, field in route.traits.aliases.items() if field == name]
    also = f" Also accepted as {' or '.join(aliases)}." if aliases else ""
    return f"{text[:1].upper()}{text[1:]}{also}".strip()
