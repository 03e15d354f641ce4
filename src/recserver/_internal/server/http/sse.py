"""``GET /events``: the events of the server, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from recserver._internal.core.errors import Draining, FieldError, InvalidInput
from recserver._internal.core.events import Event, EventBus, Subscription

PING_SECONDS = 15.0
"""Interval of pings, by which a client that has disconnected is noticed."""

FILTER_FIELDS = "task_name", "model_id"

GIVEN_TWICE = "Give task_name and model_id once at most."


class EventStreams:
    """The open event streams of an application. They end when it shuts down."""

    def __init__(self, events: EventBus, is_draining: Callable[[], bool]) -> None:
        self._events = events
        self._is_draining = is_draining
        self._open: set[Subscription] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Stream all events from now on, each a JSON object under the name of its type."""
        filters = {name: request.query[name] for name in FILTER_FIELDS if name in request.query}
        if any(len(request.query.getall(name, [])) > 1 for name in FILTER_FIELDS):
            raise InvalidInput(GIVEN_TWICE, [FieldError(("query",), GIVEN_TWICE)])
        if self._is_draining():
            raise Draining("The server is closing.")
        with self._events.listen() as events:
            self._open.add(events)
            try:
                async with sse_response(request, ping_interval=PING_SECONDS) as response:
                    await _until_first_ends(_send_events(events, response, filters), response.wait())
            except ConnectionResetError:
                pass  # the client has disconnected
            finally:
                self._open.discard(events)
        return response

    async def close(self, app: web.Application) -> None:
        """End every stream."""
        for events in self._open:
            events.close()


async def _send_events(events: Subscription, response: EventSourceResponse, filters: dict[str, str]) -> None:
    async for event in events:
        content = asdict(event)
        if all(content.get(name) == value for name, value in filters.items()):
            await response.send(json.dumps(content), event=event_name(event))


def event_name(event: Event) -> str:
    """``run_started`` for :class:`~recserver._internal.core.events.RunStarted`."""
    name = type(event).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


async def _until_first_ends(*coroutines: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
