"""The aiohttp application: every route is served by one generic handler that calls its operation."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web

from recserver._internal.core.errors import (
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
from recserver._internal.server.http.auth import Access
from recserver._internal.server.http.codec import (
    body_response,
    error_response,
    has_body,
    locate_errors,
    read_arguments,
    to_json,
    with_unknown_warnings,
)
from recserver._internal.server.http.docs_page import add_docs_routes
from recserver._internal.server.http.ndjson import Handler, cancel_on_disconnect, stream_ndjson
from recserver._internal.server.http.response_cache import ResponseCache
from recserver._internal.server.http.routes import PREFIXES, ROUTES, Route
from recserver._internal.server.http.sse import EventStreams
from recserver._internal.server.http.writer_proxy import NO_PEERS, Peers, WriterClient
from recserver._internal.server.service import Service

logger = logging.getLogger(__name__)

_HTTP_ERRORS = {
    404: RouteNotFound("There is no such endpoint: docs/http-api.md lists all of them."),
    405: MethodNotAllowed("This endpoint does not support the method: the header Allow lists the supported ones."),
    413: PayloadTooLarge("The body is too large: send less, or raise RECSERVER_MAX_BODY_BYTES."),
    415: UnsupportedMediaType("The type of the body is not supported: send JSON."),
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
    """The application that serves a service.

    Args:
        access: checks every request; None leaves that to the host application.
        answer_cache_bytes: maximum bytes of cached responses.
        lifecycle: opens the service, and closes it.
        peers: the other processes of the service.
    """
    app = web.Application(client_max_size=max_body_bytes, middlewares=[_access_and_errors(access)])
    cache = ResponseCache(service.current_version, answer_cache_bytes)
    for route in ROUTES:
        handler = _route_handler(service, route, cache if route.is_cacheable else None, peers)
        for prefix in PREFIXES:
            # the default pattern of aiohttp does not match braces, which a user id may contain
            app.router.add_route(route.method, prefix + route.path.replace("}", ":[^/]+}"), handler)
    for prefix in PREFIXES:
        add_docs_routes(app, prefix)
    streams = EventStreams(service.events, lambda: service.draining)
    for prefix in PREFIXES:
        handler = streams.handle if peers.writer is None else peers.writer.forward
        app.router.add_route("GET", f"{prefix}/events", handler)
    app.on_shutdown.append(streams.close)
    app.on_shutdown.append(_ending_waits(service))
    app.cleanup_ctx.append(lifecycle)
    return app


def _ending_waits(service: Service) -> Callable[[web.Application], Awaitable[None]]:
    async def end(_: web.Application) -> None:
        """Answer the requests that wait for the end of a run, so that they do not delay the shutdown."""
        service.end_waits()

    return end


def _route_handler(service: Service, route: Route, cache: ResponseCache | None, peers: Peers) -> Handler:
    is_open = route.traits.scope == "open"
    waits = not route.traits.from_model and not is_open
    handler = _local_handler(service, route, cache, peers.wait_settled if waits else None)
    if peers.writer is not None:
        handler = _follower_handler(service, route, handler, peers.writer)
    handler = cancel_on_disconnect(handler) if route.traits.may_wait else handler
    handler.needs_key = not is_open  # type: ignore[attr-defined]
    return handler


def _follower_handler(service: Service, route: Route, local: Handler, writer: WriterClient) -> Handler:
    """Forwards to the writer every request that this process cannot answer from a model alone."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if not route.traits.from_model:
            try:
                return await writer.forward(request)
            except WriterUnavailable:
                if service.draining:
                    raise Draining("The server is closing.") from None
                raise
        try:
            return await local(request)
        except (ModelNotFound, ModelNotTrained, UnreadableModel):
            with suppress(WriterUnavailable):  # it may have a newer model, and it repairs files
                return await writer.forward(request)
            raise

    return handle


def _local_handler(
    service: Service, route: Route, cache: ResponseCache | None, wait_settled: Callable[[], Awaitable[None]] | None
) -> Handler:
    """Calls the operation of a route; with ``wait_settled``, responds once all processes serve its changes."""
    operation: Callable[..., Awaitable[Any]] = getattr(service, route.operation)
    default_location = "query" if route.method == "GET" else "body"

    async def handle(request: web.Request) -> web.StreamResponse:
        responses = None if has_body(request) else cache
        if responses is not None and (body := responses.get(request.raw_path)) is not None:
            return body_response(body)
        arguments = await read_arguments(request, route)
        version = service.current_version(str(arguments.values.get("model_id"))) if responses is not None else None
        try:
            result = await operation(**arguments.values)
        except InvalidInput as error:
            raise InvalidInput(str(error), locate_errors(error, arguments, default_location)) from None
        except (SourceFailed, ExportFailed) as error:
            problem = FieldError(("data_chef_id",) if default_location == "query" else (), str(error))
            problems = locate_errors(InvalidInput(str(error), [problem]), arguments, default_location)
            return error_response(error, problems)
        if isinstance(result, AsyncGenerator):
            transform = partial(with_unknown_warnings, arguments=arguments)
            return await stream_ndjson(request, result, transform, flush_each=route.traits.reports_progress)
        body = to_json(result if route.is_keyed_by_id else with_unknown_warnings(result, arguments))
        if responses is not None and version is not None:
            responses.put(request.raw_path, result.model_id, body, version)
        if wait_settled is not None:
            await wait_settled()
        return body_response(body)

    return handle


def _access_and_errors(access: Access | None) -> Any:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Checks access, and gives all errors the same shape."""
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
            return error_response(RecServerError("Internal error in recserver: the server's log has the details."))

    return middleware


def _http_error(error: web.HTTPException) -> web.Response:
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    reason = _HTTP_ERRORS.get(error.status) or MalformedJson("The request could not be read.")
    return error_response(reason, headers=headers)
