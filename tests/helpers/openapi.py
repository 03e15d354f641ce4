"""The OpenAPI document of the product, and what it says of a response."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import jsonschema_rs

from recserver._internal.server.http.openapi.document import openapi_document
from recserver._internal.server.http.routes import PREFIXES

DOCUMENT = openapi_document()

FROM_FILES = {"list_models", "list_data_chefs", "list_tasks"}
"""They show files that cannot be used as they are, with an error: these may hold anything."""


def check_response(method: str, target: str, status: int, content_type: str, body: Any) -> None:
    """Check that a response to a request is documented, and that its JSON is of the documented form.

    Responses to requests without a route have no documentation.
    """
    operation = operation_of(method, target)
    if operation is None:
        return
    validator = _validator(operation["operationId"], status, content_type)
    assert validator is not None, f"{method} {target}: {status} {content_type} is not documented"
    if operation["operationId"] in FROM_FILES and status == 200:
        body = {name: shown for name, shown in body.items() if not (shown.get("last_error") or shown.get("error"))}
    problems = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(body)]
    assert not problems, f"{method} {target}: {problems[:3]} in {body!r:.500}"


def operation_of(method: str, target: str) -> dict[str, Any] | None:
    """The documented operation that answers a request."""
    path = target.partition("?")[0]
    for template, pattern in _patterns():
        if pattern.fullmatch(path) and method.lower() in DOCUMENT["paths"][template]:
            found: dict[str, Any] = DOCUMENT["paths"][template][method.lower()]
            return found
    return None


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    prefix = "|".join(map(re.escape, PREFIXES))
    return [
        (template, re.compile(f"({prefix})" + re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))))
        for template in DOCUMENT["paths"]
    ]


@cache
def _validator(operation_id: str, status: int, content_type: str) -> Any:
    document = DOCUMENT
    (operation,) = [
        one for path in document["paths"].values() for one in path.values() if one["operationId"] == operation_id
    ]
    response = operation["responses"].get(str(status))
    if response is None:
        return None
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    media = response["content"].get(content_type)
    if media is None:
        return None
    return jsonschema_rs.validator_for({**media["schema"], "components": document["components"]})
