"""JSON schemas of arguments and results. pydantic makes those of arguments, and msgspec those of results."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from pydantic import TypeAdapter

from recserver._internal.results.base import OpenObject, ResultObject
from recserver._internal.results.errors import ErrorResponse
from recserver._internal.server.http.openapi.docstrings import field_descriptions, to_markdown
from recserver._internal.server.http.routes import Route
from recserver._internal.server.service import Service

TEMPLATE = "#/components/schemas/{}"

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Schemas:
    """The schemas of all operations.

    Attributes:
        arguments: operation → name of an argument → its schema.
        results: operation → schema of its result, or of each line of it.
        components: the schemas that the others refer to, by name.
    """

    arguments: dict[str, dict[str, Schema]]
    results: dict[str, Schema]
    components: dict[str, Schema]


def schemas_of(routes: Iterable[Route]) -> Schemas:
    """The schemas of the operations that routes call."""
    operations = {route.operation: route for route in routes}
    arguments, inputs = _argument_schemas(operations)
    kinds = {name: _result_type(name) for name in operations}
    schemas, outputs = msgspec.json.schema_components(
        [*kinds.values(), ErrorResponse], ref_template=TEMPLATE.format("{name}")
    )
    for kind in _all_subclasses(ResultObject):
        if kind.__name__ in outputs:
            _describe(outputs[kind.__name__], kind)
    return Schemas(arguments, dict(zip(kinds, schemas, strict=False)), inputs | outputs)


def is_streamed(operation: str) -> bool:
    """Whether an operation returns a stream of results."""
    return get_origin(_return_annotation(operation)) is AsyncGenerator


def _argument_schemas(operations: dict[str, Route]) -> tuple[dict[str, dict[str, Schema]], dict[str, Schema]]:
    adapters = [
        ((operation, name), "validation", TypeAdapter[Any](kind))
        for operation, route in operations.items()
        for name, kind in route.parameters.types.items()
    ]
    schemas, definitions = TypeAdapter.json_schemas(adapters, ref_template=TEMPLATE.format("{model}"))  # type: ignore[arg-type]
    arguments: dict[str, dict[str, Schema]] = {operation: {} for operation in operations}
    for ((operation, name), _), schema in schemas.items():
        arguments[operation][name] = _without_titles(schema)
    return arguments, _without_titles(definitions.get("$defs", {}))


def _without_titles(schema: Any) -> Any:
    """A schema without the titles that pydantic makes of names."""
    if isinstance(schema, dict):
        return {key: _without_titles(value) for key, value in schema.items() if key != "title"}
    return [_without_titles(element) for element in schema] if isinstance(schema, list) else schema


def _return_annotation(operation: str) -> Any:
    return get_type_hints(getattr(Service, operation))["return"]


def _result_type(operation: str) -> Any:
    annotation = _return_annotation(operation)
    return get_args(annotation)[0] if get_origin(annotation) is AsyncGenerator else annotation


def _all_subclasses(kind: type[ResultObject]) -> Iterator[type[ResultObject]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _all_subclasses(subclass)


def _describe(schema: Schema, kind: type[ResultObject]) -> None:
    """Add the descriptions of a result's fields; an open object has further keys instead of ``content``."""
    schema["description"] = to_markdown(schema.get("description", ""))
    descriptions = field_descriptions(kind)
    for name, field in schema["properties"].items():
        if name in descriptions:
            field["description"] = descriptions[name]
    if not kind.__struct_config__.omit_defaults:
        schema["required"] = list(schema["properties"])
    if issubclass(kind, OpenObject):
        del schema["properties"]["content"]
        schema["required"] = [name for name in schema.get("required", ()) if name != "content"]
        schema["description"] += " Values of a file that cannot be used are shown whatever their type."
