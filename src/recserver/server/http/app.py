"""The aiohttp application: every route is one generic handler around its verb."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web

from recserver.core.errors import (
    Draining,
    ExportFailed,
    FieldError,
    InvalidInput,
    MalformedJson,
    MethodNotAllowed,
    ModelNotFound,
    ModelNotTrained,
    PayloadTooLarge,
    RecServerError,
    RouteNotFound,
    SourceFailed,
    UnreadableModel,
    UnsupportedMediaType,
    WriterUnavailable,
)
from recserver.server.http.auth import Access
from recserver.server.http.codec import (
    body_response,
    error_response,
    has_body,
    locate_errors,
    read_arguments,
    to_json,
    with_unknown_warnings,
)
from recserver.server.http.ndjson import Handler, cancel_on_disconnect, stream_ndjson
from recserver.server.http.response_cache import ResponseCache
from recserver.server.http.routes import PREFIXES, ROUTES, Route
from recserver.server.http.sse import EventStreams
from recserver.server.http.writer_proxy import NO_PEERS, Peers
from recserver.server.service import Service
from recserver.server.service.operation import accepts_any, parameter_names

logger = logging.getLogger(__name__)

_HTTP_ERRORS = {
    404: RouteNotFound("There is no such address here: docs/http-api.md lists those there are."),
    405: MethodNotAllowed("This address is not used with that method: the header Allow names those it is."),
    413: PayloadTooLarge("The body is larger than this server takes: send less, or raise its limit."),
    415: UnsupportedMediaType("Bodies of that type are not read: send JSON."),
}


def build_app(
    service: Service,
    *,
    access: Access | None,
    max_body_bytes: int,
    answer_cache_bytes: int,
    lifecycle: Callable[[web.Application], AsyncIterator[None]],
    peers: Peers = NO_PEERS,
) -> web.Application:
    """The application that shows a service.

    Args:
        access: what requests must show; None leaves that to the host application.
        answer_cache_bytes: that answers may take which are kept to be given again.
        lifecycle: opens what the service needs, and closes it.
        company: the other processes of the service.
    """
    app = web.Application(client_max_size=max_body_bytes, middlewares=[_access_and_errors(access)])
    answers = ResponseCache(service.current_version, answer_cache_bytes)
    for route in ROUTES:
        handler = _route_handler(
            service, route, answers if route.is_cacheable and answer_cache_bytes else None, peers
        )
        for prefix in PREFIXES:
            # aiohttp's own pattern for a part of a path refuses braces, which a user id may hold
            app.router.add_route(route.method, prefix + route.path.replace("}", ":[^/]+}"), handler)
    streams = EventStreams(service.events, lambda: service.draining)
    for prefix in PREFIXES:
        told_by = streams.handle if peers.writer is None else peers.writer.forward
        app.router.add_route("GET", f"{prefix}/events", told_by)
    app.on_shutdown.append(streams.close)
    app.cleanup_ctx.append(lifecycle)
    return app


def _route_handler(service: Service, route: Route, cache: ResponseCache | None, peers: Peers) -> Handler:
    waits = not route.is_local and route.operation != "health"
    own, writer = _local_handler(service, route, cache, peers.wait_settled if waits else None), peers.writer

    async def in_company(request: web.Request) -> web.StreamResponse:
        if writer is None:
            return await own(request)
        if not route.is_local:
            try:
                return await writer.forward(request)
            except WriterUnavailable:
                if service.draining:
                    raise Draining("The server is closing.") from None
                raise
        try:
            return await own(request)
        except (ModelNotFound, ModelNotTrained, UnreadableModel):
            with suppress(WriterUnavailable):  # it may know a model that was not noticed here, and it mends files
                return await writer.forward(request)
            raise

    handler = own if writer is None else in_company
    handler = cancel_on_disconnect(handler) if route.streams_progress else handler
    handler.needs_key = route.needs_key  # type: ignore[attr-defined]
    return handler


def _local_handler(
    service: Service, route: Route, cache: ResponseCache | None, wait_settled: Callable[[], Awaitable[None]] | None
) -> Handler:
    """Answers by the verb of a route, once what the answer tells of models is so in all processes."""
    verb: Callable[..., Awaitable[Any]] = getattr(service, route.operation)
    known, is_open = parameter_names(verb), accepts_any(verb)
    otherwise = "query" if route.method == "GET" else "body"

    async def handle(request: web.Request) -> web.StreamResponse:
        kept = None if cache is None or has_body(request) else cache
        if kept is not None and (body := kept.get(request.raw_path)) is not None:
            return body_response(body)
        arguments = await read_arguments(request, route.operation, known, is_open)
        version = service.current_version(str(arguments.values.get("model_id"))) if kept is not None else None
        try:
            result = await verb(**arguments.values)
        except InvalidInput as error:
            raise InvalidInput(str(error), locate_errors(error, arguments, otherwise)) from None
        except (SourceFailed, ExportFailed) as error:
            asked = FieldError(("data_chef_id",) if otherwise == "query" else (), str(error))
            faults = locate_errors(InvalidInput(str(error), [asked]), arguments, otherwise)
            return error_response(error, faults)
        if isinstance(result, AsyncGenerator):
            tell = partial(with_unknown_warnings, arguments=arguments)
            return await stream_ndjson(request, result, tell, flush_each=route.streams_progress)
        body = to_json(result if route.is_keyed_by_id else with_unknown_warnings(result, arguments))
        if kept is not None and version is not None:
            kept.put(request.raw_path, result["model_id"], body, version)
        if wait_settled is not None:
            await wait_settled()
        return body_response(body)

    return handle


def _access_and_errors(access: Access | None) -> Any:
    @web.middleware
    async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who may not ask is refused, and every error leaves in the one shape that all of them have."""
        try:
            if access is not None:
                needs_key = getattr(request.match_info.handler, "needs_key", True)
                access.check(request, needs_key=needs_key)
            return await handler(request)
        except RecServerError as error:
            return error_response(error, error.errors if isinstance(error, InvalidInput) else ())
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return _http_error(error)
        except Exception:
            logger.exception("%s %s", request.method, request.rel_url.raw_path)
            return error_response(RecServerError("A fault in recserver: the server's log has the details."))

    return door


def _http_error(error: web.HTTPException) -> web.Response:
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    reason = _HTTP_ERRORS.get(error.status) or MalformedJson("The request could not be read.")
    return error_response(reason, headers=headers)
