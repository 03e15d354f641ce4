"""From a request to the arguments of a verb, and from a result or an error to a response."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web
from pydantic_core import to_json as dumps

from recserver.core.errors import (
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
from recserver.server.http.routes import ALIASES, ID_FIELDS, LIST_FIELDS
from recserver.server.http.strict_json import parse_json

MAX_INLINE_BYTES = 2**15
"""Bytes of a body that are parsed at once; a larger one is parsed beside the event loop."""


RETRY_SECONDS = 5

NOT_UTF8 = FieldError(("query",), "is not UTF-8 text")

BODY_HEADERS = ("Content-Type", "Content-Encoding")

ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
"""What a body may be encoded as; the limit of its size counts after decoding."""

MAX_WARNINGS = 20
"""Unknown fields that are named, each in a warning of its own."""


@dataclass(slots=True)
class Arguments:
    """What a request says to a verb.

    Attributes:
        takes_any: whether the verb knows what to do with any field of the body.
        values: by the verb's name of the field.
        places: where each stood, and under which name, such as ``("body", "path")`` for ``file_path``.
        unknown: fields of the body that nobody knows.
    """

    operation: str
    known: Collection[str]
    accepts_any: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    locations: dict[str, tuple[str, str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def add(self, location: str, given: Mapping[str, Any] | Iterator[tuple[str, Any]]) -> None:
        """Add what stands in one place of the request.

        Raises:
            InvalidInput: if a field was given before and differs.
        """
        for name, value in given.items() if isinstance(given, Mapping) else given:
            proper = ALIASES.get(self.operation, {}).get(name, name)
            if proper not in self.known and not (self.accepts_any and location == "body"):
                if location == "body":
                    self.unknown.append(name)
            elif value is not None:
                if proper in self.values and not _equal(self.values[proper], value):
                    raise InvalidInput.of((location, name), "is given twice, and differs: give it once")
                self.values.setdefault(proper, value)
                self.locations.setdefault(proper, (location, name))


async def read_arguments(
    request: web.Request, operation: str, known: Collection[str], accepts_any: bool = False
) -> Arguments:
    """The arguments that a request gives, from its path, its query and its body.

    Raises:
        MalformedJson, UnsupportedMediaType, InvalidInput: if they cannot be made out.
    """
    arguments = Arguments(operation, known, accepts_any)
    if "%" in request.raw_path:
        try:
            unquote_to_bytes(request.raw_path).decode()
        except UnicodeDecodeError:
            raise InvalidInput("The address is not UTF-8 text: percent-encode it as UTF-8.", [NOT_UTF8]) from None
    arguments.add("path", request.match_info)
    reads_query = request.method in ("GET", "DELETE")
    aliases = ALIASES.get(operation, {})
    asked = (
        (name, one) for name, one in request.query.items() if reads_query or aliases.get(name, name) in ID_FIELDS
    )
    arguments.add("query", _gather_lists(asked))
    arguments.add("body", await _body(request))
    return arguments


def _gather_lists(asked: Iterator[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    """The fields of a query, each list once with all of its values."""
    lists: dict[str, list[str]] = {}
    for name, value in asked:
        if name in LIST_FIELDS:
            lists.setdefault(name, []).append(value)
        else:
            yield name, value
    yield from lists.items()


def has_body(request: web.Request) -> bool:
    """Whether there is a body, or a header that speaks of one."""
    return request.body_exists or not request.headers.keys().isdisjoint(BODY_HEADERS)


async def read_body(request: web.Request) -> bytes:
    """The body of a request, decoded as its headers say; it may be empty.

    Raises:
        MalformedJson, UnsupportedMediaType: if it is none that is read here.
    """
    if not has_body(request):
        return b""
    declared = request.headers.get("Content-Type")
    if declared is not None and request.content_type != "application/json":
        raise UnsupportedMediaType(
            f"A body of type {quoted(request.content_type)} is not read: send JSON, as application/json."
        )
    encoding = request.headers.get("Content-Encoding", "")
    if encoding.strip().lower() not in ENCODINGS:
        raise UnsupportedMediaType(
            f"A body encoded as {quoted(encoding)} is not read: send it as it is, or as gzip or deflate."
        )
    try:
        return await request.read()
    except (web.RequestPayloadError, ConnectionError):
        raise MalformedJson("The body breaks off, or is not encoded as its headers say.") from None


async def _body(request: web.Request) -> dict[str, Any]:
    content = await read_body(request)
    if not content.strip():
        return {}
    if len(content) <= MAX_INLINE_BYTES:
        value = parse_json(content)
    else:
        value = await asyncio.to_thread(parse_json, content)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput("The body must be a JSON object.", [FieldError(("body",), "must be a JSON object")])
    return value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other or (isinstance(one, str | int | float) and str(one) == str(other))


def with_unknown_warnings(result: dict[str, Any], arguments: Arguments) -> dict[str, Any]:
    """The result, and a warning for every field of the body that means nothing here."""
    if not arguments.unknown:
        return result
    named, further = arguments.unknown[:MAX_WARNINGS], len(arguments.unknown) - MAX_WARNINGS
    ignored = [f"The field {quoted(name)} is not known here and was ignored." for name in named]
    ignored += [f"So were {further} further fields."] if further > 0 else []
    return result | {"warnings": [*result.get("warnings", ()), *ignored]}


def to_json(content: Mapping[str, Any]) -> bytes:
    """``content`` as one line of JSON."""
    try:
        return dumps(content, inf_nan_mode="null")
    except ValueError:  # half a surrogate pair, as old files may hold
        text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text.encode(errors="replace")


def body_response(body: bytes, status: int = 200, headers: Mapping[str, str] = {}) -> web.Response:
    """A response of JSON. Everything that is not streamed leaves the server through here."""
    return web.Response(
        body=body,
        status=status,
        headers={"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", **headers},
    )


def error_response(
    error: RecServerError, errors: Collection[FieldError] = (), headers: Mapping[str, str] = {}
) -> web.Response:
    """The response to any error. ``errors``: the fields of an error with status 422."""
    content: dict[str, Any] = {"detail": str(error), "error": str(error), "code": error.code}
    if isinstance(error, Unauthorized):
        content["authenticated"] = False
    if error.http_status == 422:
        content["errors"] = [{"loc": list(one.loc), "msg": one.msg} for one in errors]
    if isinstance(error, Unavailable):
        headers = {"Retry-After": str(RETRY_SECONDS), **headers}
    if isinstance(error, Draining):
        headers = {"Connection": "close", **headers}
    return body_response(to_json(content), error.http_status, headers)


def locate_errors(error: InvalidInput, arguments: Arguments, default_location: str) -> list[FieldError]:
    """The faults that a verb found, each with the place and the name that its field had in the request."""
    faults = error.errors or (FieldError((), str(error)),)
    return [
        FieldError((*_location(one.loc, arguments, default_location), *one.loc[1:]), one.msg) for one in faults
    ]


def _location(loc: tuple[str, ...], arguments: Arguments, default_location: str) -> tuple[str, ...]:
    return arguments.locations.get(loc[0], (default_location, loc[0])) if loc else (default_location,)
