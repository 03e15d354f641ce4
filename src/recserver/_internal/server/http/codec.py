"""Requests to arguments of operations, and results and errors to responses."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web

from recserver._internal.core.errors import (
    Draining,
    FieldError,
    InvalidInput,
    MalformedJson,
    RecServerError,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    quoted,
)
from recserver._internal.results.base import ResultObject, encode_json
from recserver._internal.results.errors import ErrorResponse, FieldProblem
from recserver._internal.server.http.routes import Route
from recserver._internal.server.http.strict_json import parse_json
from recserver._internal.server.service.chef_key_warnings import limit_warnings

MAX_INLINE_BYTES = 2**15
"""Bytes of a body that is parsed on the event loop; a larger one is parsed in a thread."""

RETRY_SECONDS = 5
"""Value of the Retry-After header."""

NOT_UTF8 = FieldError(("query",), "is not UTF-8 text")

BODY_HEADERS = ("Content-Type", "Content-Encoding")

ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
"""Encodings of a body; its size is limited after decoding."""


@dataclass(slots=True)
class Arguments:
    """The arguments of an operation, as a request gives them.

    Attributes:
        route: which operation it calls.
        values: by name of the parameter.
        locations: where and under which name each was given, such as ``("body", "path")`` for ``file_path``.
        unknown: unknown fields of the body.
    """

    route: Route
    values: dict[str, Any] = field(default_factory=dict)
    locations: dict[str, tuple[str, str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def add(self, location: str, fields: Iterable[tuple[str, Any]]) -> None:
        """Add the fields of the path, the query or the body.

        Raises:
            InvalidInput: if a field is given twice, with different values.
        """
        aliases, parameters = self.route.traits.aliases, self.route.parameters
        for name, value in fields:
            parameter = aliases.get(name, name)
            if parameter not in parameters.types and not (parameters.accepts_any and location == "body"):
                if location == "body":
                    self.unknown.append(name)
            elif value is not None:
                if parameter in self.values and not _equal(self.values[parameter], value):
                    raise InvalidInput.of((location, name), "is given twice, and differs: give it once")
                self.values.setdefault(parameter, value)
                self.locations.setdefault(parameter, (location, name))


async def read_arguments(request: web.Request, route: Route) -> Arguments:
    """Read the arguments from the path, the query and the body of a request.

    Raises:
        MalformedJson, UnsupportedMediaType, InvalidInput: if they cannot be read.
    """
    arguments = Arguments(route)
    if "%" in request.raw_path:
        try:
            unquote_to_bytes(request.raw_path).decode()
        except UnicodeDecodeError:
            raise InvalidInput("The URL is not UTF-8 text: percent-encode it as UTF-8.", [NOT_UTF8]) from None
    arguments.add("path", request.match_info.items())
    reads_query = request.method in ("GET", "DELETE")
    aliases = route.traits.aliases
    query = (
        (name, value)
        for name, value in request.query.items()
        if reads_query or aliases.get(name, name) in route.id_fields
    )
    arguments.add("query", _gather_lists(query, route.list_fields))
    arguments.add("body", (await _body(request)).items())
    return arguments


def _gather_lists(query: Iterable[tuple[str, str]], list_fields: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The fields of a query, each list field once with all of its values."""
    lists: dict[str, list[str]] = {}
    for name, value in query:
        if name in list_fields:
            lists.setdefault(name, []).append(value)
        else:
            yield name, value
    yield from lists.items()


def has_body(request: web.Request) -> bool:
    """Whether there is a body, or a header that describes one."""
    return request.body_exists or not request.headers.keys().isdisjoint(BODY_HEADERS)


async def read_body(request: web.Request) -> bytes:
    """The body of a request, decoded as its headers say; may be empty.

    Raises:
        MalformedJson, UnsupportedMediaType: if it cannot be read.
    """
    if not has_body(request):
        return b""
    declared = request.headers.get("Content-Type")
    if declared is not None and request.content_type != "application/json":
        raise UnsupportedMediaType(
            f"The content type {quoted(request.content_type)} is not supported: send application/json."
        )
    encoding = request.headers.get("Content-Encoding", "")
    if encoding.strip().lower() not in ENCODINGS:
        raise UnsupportedMediaType(
            f"The content encoding {quoted(encoding)} is not supported: send plain JSON, or gzip or deflate."
        )
    try:
        return await request.read()
    except (web.RequestPayloadError, ConnectionError):
        raise MalformedJson("The body is incomplete, or is not encoded as its headers say.") from None


async def _body(request: web.Request) -> dict[str, Any]:
    content = await read_body(request)
    if not content.strip():
        return {}
    is_small = len(content) <= MAX_INLINE_BYTES
    value = parse_json(content) if is_small else await asyncio.to_thread(parse_json, content)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput("The body must be a JSON object.", [FieldError(("body",), "must be a JSON object")])
    return value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other or (isinstance(one, str | int | float) and str(one) == str(other))


def with_unknown_warnings(result: ResultObject, arguments: Arguments) -> ResultObject:
    """The result, with a warning for every unknown field of the body."""
    if not arguments.unknown:
        return result
    unknown = [f"The field {quoted(name)} is unknown and was ignored." for name in arguments.unknown]
    return result.with_warnings(limit_warnings(unknown, "fields"))


def to_json(content: ResultObject | Mapping[str, Any]) -> bytes:
    """``content`` as a line of JSON in UTF-8, with its line end."""
    return encode_json(content) + b"\n"


def body_response(body: bytes, status: int = 200, headers: Mapping[str, str] = {}) -> web.Response:
    """A JSON response. All responses that are not streamed are made here."""
    return web.Response(
        body=body,
        status=status,
        headers={"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", **headers},
    )


def error_response(
    error: RecServerError, errors: Collection[FieldError] = (), headers: Mapping[str, str] = {}
) -> web.Response:
    """The response to any error. ``errors``: the fields of an error with status 422."""
    content = ErrorResponse(
        detail=str(error),
        error=str(error),
        code=error.code,
        authenticated=False if isinstance(error, Unauthorized) else None,
        errors=[FieldProblem(loc=one.loc, msg=one.msg) for one in errors] if error.status == 422 else None,
    )
    if isinstance(error, Unavailable):
        headers = {"Retry-After": str(RETRY_SECONDS), **headers}
    if isinstance(error, Draining):
        headers = {"Connection": "close", **headers}
    return body_response(to_json(content), error.status, headers)


def locate_errors(error: InvalidInput, arguments: Arguments, default_location: str) -> list[FieldError]:
    """The errors of an operation, each with the location and the name that its field has in the request."""
    errors = error.errors or (FieldError((), str(error)),)
    return [
        FieldError((*_location(one.loc, arguments, default_location), *one.loc[1:]), one.msg) for one in errors
    ]


def _location(loc: tuple[str, ...], arguments: Arguments, default_location: str) -> tuple[str, ...]:
    return arguments.locations.get(loc[0], (default_location, loc[0])) if loc else (default_location,)
