"""The aiohttp application: every route is one generic handler around its verb."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from recserver.errors import Draining, ExportFailed, FieldError, InvalidInput, RecServerError, SourceFailed
from recserver.service import Service
from recserver.service.verb import fields, takes_any
from recserver.web.access import Access
from recserver.web.answers import Answers
from recserver.web.lines import stream_lines
from recserver.web.routes import PREFIXES, ROUTES, Route
from recserver.web.stream import Streams
from recserver.web.wire import (
    body_response,
    error_response,
    located,
    read_arguments,
    to_json,
    with_warnings,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OF_BODIES = ("Content-Type", "Content-Encoding")

logger = logging.getLogger(__name__)

_HTTP_CODES = {
    404: ("route_not_found", "There is no such address here: docs/http-api.md lists those there are."),
    405: ("method_not_allowed", "This address is not used with that method: the header Allow names those it is."),
    413: ("payload_too_large", "The body is larger than this server takes: send less, or raise its limit."),
    415: ("unsupported_media_type", "Bodies of that type are not read: send JSON."),
}


def build_app(
    service: Service,
    *,
    access: Access | None,
    max_body_bytes: int,
    answer_cache_bytes: int,
    lifecycle: Callable[[web.Application], AsyncIterator[None]],
) -> web.Application:
    """The application that shows a service.

    Args:
        access: what requests must show; None leaves that to the host application.
        answer_cache_bytes: that answers may take which are kept to be given again.
        lifecycle: opens what the service needs, and closes it.
    """
    app = web.Application(client_max_size=max_body_bytes, middlewares=[_door(access)])
    answers = Answers(service.serving, answer_cache_bytes)
    for route in ROUTES:
        handler = _handler(service, route, answers if route.repeats and answer_cache_bytes else None)
        for prefix in PREFIXES:
            # aiohttp's own pattern for a part of a path refuses braces, which a user id may hold
            app.router.add_route(route.method, prefix + route.path.replace("}", ":[^/]+}"), handler)
    streams = Streams(service.events, lambda: service.draining)
    for prefix in PREFIXES:
        app.router.add_route("GET", f"{prefix}/events", streams.handle)
    app.on_shutdown.append(streams.end)
    app.cleanup_ctx.append(lifecycle)
    return app


def _handler(service: Service, route: Route, answers: Answers | None) -> Handler:
    verb: Callable[..., Awaitable[Any]] = getattr(service, route.verb)
    known, is_open = fields(verb), takes_any(verb)
    otherwise = "query" if route.method == "GET" else "body"

    async def handle(request: web.Request) -> web.StreamResponse:
        kept = None if answers is None or _may_have_a_body(request) else answers
        if kept is not None and (body := kept.find(request.raw_path)) is not None:
            return body_response(body)
        arguments = await read_arguments(request, route.verb, known, is_open)
        version = service.serving(str(arguments.values.get("model_id"))) if kept is not None else None
        try:
            result = await verb(**arguments.values)
        except InvalidInput as error:
            raise InvalidInput(str(error), located(error, arguments, otherwise)) from None
        except (SourceFailed, ExportFailed) as error:
            asked = FieldError(("data_chef_id",) if otherwise == "query" else (), str(error))
            faults = located(InvalidInput(str(error), [asked]), arguments, otherwise)
            return error_response(error.code, str(error), faults)
        if isinstance(result, AsyncGenerator):
            return await stream_lines(request, result, at_once=route.follows)
        body = to_json(result if route.lists else with_warnings(result, arguments))
        if kept is not None and version is not None:
            kept.keep(request.raw_path, result["model_id"], body, version)
        return body_response(body)

    handle.needs_key = route.needs_key  # type: ignore[attr-defined]
    return handle


def _may_have_a_body(request: web.Request) -> bool:
    return request.body_exists or not request.headers.keys().isdisjoint(OF_BODIES)


def _door(access: Access | None) -> Any:
    @web.middleware
    async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who may not ask is refused, and every error leaves in the one shape that all of them have."""
        try:
            if access is not None:
                needs_key = getattr(request.match_info.handler, "needs_key", True)
                access.check(request, needs_key=needs_key)
            return await handler(request)
        except InvalidInput as error:
            return error_response(error.code, str(error), error.errors)
        except Draining as error:
            return error_response(error.code, str(error), headers={"Connection": "close"})
        except RecServerError as error:
            return error_response(error.code, str(error))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return _http_error(error)
        except Exception:
            logger.exception("%s %s", request.method, request.rel_url.raw_path)
            return error_response("internal_error", "A fault in recserver: the server's log has the details.")

    return door


def _http_error(error: web.HTTPException) -> web.Response:
    code, sentence = _HTTP_CODES.get(error.status, ("malformed_json", "The request could not be read."))
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return error_response(code, sentence, headers=headers)
