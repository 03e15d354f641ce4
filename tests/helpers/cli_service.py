"""Services of several processes, and connections to a chosen process."""

from __future__ import annotations

import json
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, TCPConnector

from tests.helpers.cli_process import Start, url_of
from tests.helpers.pids import children_of


class Service:
    """The processes of ``recserver serve --workers N``."""

    def __init__(self, supervisor: Process, url: str, stack: AsyncExitStack) -> None:
        self.supervisor, self.url = supervisor, url
        self._stack = stack

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def pids(self, role: str = "") -> set[int]:
        """The serving processes that run now."""
        return {pid for pid in children_of(self.supervisor.pid) if role in ("", role_of(pid))}

    @property
    def writer(self) -> int:
        (pid,) = self.pids("writer")
        return pid

    async def to(self, pid: int) -> ClientSession:
        """A client whose only connection is served by this process."""
        while True:
            sockets: list[socket.socket] = []

            def create_socket(info: tuple[Any, ...], sockets: list[socket.socket] = sockets) -> socket.socket:
                sockets.append(socket.socket(*info[:3]))
                return sockets[-1]

            session = ClientSession(
                self.url, connector=TCPConnector(limit=1, keepalive_timeout=600, socket_factory=create_socket)
            )
            await self._stack.enter_async_context(session)
            async with session.get("/users?model_id=nothing"):
                pass
            if pid == _accepted_by(sockets[-1].getsockname()[1], self.port, self.pids()):
                return session

    async def to_each(self, role: str = "") -> dict[int, ClientSession]:
        """Clients of all processes."""
        return {pid: await self.to(pid) for pid in sorted(self.pids(role))}


def role_of(pid: int) -> str:
    """The role of a serving process; empty if it has none yet."""
    try:
        last = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").rsplit(b"\0", 1)[-1]
        config = json.loads(last)
    except (OSError, ValueError):
        return ""
    return str(config["role"]) if isinstance(config, dict) else ""


def _accepted_by(client: int, server: int, pids: set[int]) -> int | None:
    """The process that accepted the connection between two ports."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *more = line.split()
        if (int(local.split(":")[1], 16), int(remote.split(":")[1], 16)) == (server, client):
            return next((pid for pid in pids if f"socket:[{more[6]}]" in _descriptors(pid)), None)
    return None


def _descriptors(pid: int) -> set[str]:
    targets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed since it was listed
            targets.add(str(link.readlink()))
    return targets


Serve = Callable[..., Awaitable[Service]]
"""Starts a service with this number of processes."""


async def called(http: ClientSession, method: str, path: str, **body: Any) -> tuple[int, Any]:
    """Status and content of a response."""
    async with http.request(method, path, json=body or None) as response:
        return response.status, await response.json()


async def ok(http: ClientSession, method: str, path: str, **body: Any) -> Any:
    """The content of a response whose status must be 200."""
    status, content = await called(http, method, path, **body)
    assert status == 200, (method, path, content)
    return content


@asynccontextmanager
async def server_starter(start: Start) -> AsyncIterator[Serve]:
    """Starts ``recserver serve`` for the folder ``data`` on a free port; returns once all processes answer."""
    async with AsyncExitStack() as stack:

        async def serve(workers: int, *arguments: str, **environment: str) -> Service:
            command = ("serve", "--port", "0", "--workers", str(workers), *arguments)
            supervisor = await start(*command, **environment)
            return Service(supervisor, await url_of(supervisor), stack)

        yield serve
