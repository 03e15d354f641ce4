"""A client of a server over real HTTP, which checks all responses: the conventions, and the OpenAPI document."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from aiohttp import ClientSession
from yarl import URL

from recserver import RecServer
from tests.helpers.openapi import check_response


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. ``body`` is its JSON, None if it had no body."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str | None:
        """The code of an error."""
        return self.body.get("code") if isinstance(self.body, dict) else None

    @property
    def locs(self) -> list[list[str]]:
        """The locations of the errors of a 422."""
        return [error["loc"] for error in self.body["errors"]]


def checked(status: int, headers: Mapping[str, str], content: bytes, asked: str) -> Answer:
    """The response to ``asked``, which must be JSON, and have the shape of errors if it is one."""
    assert headers.get("Content-Type") == "application/json", f"{asked}: {status} {headers}"
    assert status != 500, f"{asked}: {content!r}"
    if asked.startswith("HEAD "):
        assert content == b"", asked
        return Answer(status, headers, None)
    body = json.loads(content)
    if status == 200:
        assert isinstance(body, dict), f"{asked}: {content!r}"
        return Answer(status, headers, body)
    assert 400 <= status < 600, f"{asked}: {status}"
    assert body["detail"] == body["error"], f"{asked}: {content!r}"
    assert isinstance(body["detail"], str) and len(body["detail"]) > 10, f"{asked}: {content!r}"
    assert isinstance(body["code"], str), f"{asked}: {content!r}"
    assert ("errors" in body) == (status == 422), f"{asked}: {content!r}"
    for error in body.get("errors", ()):
        assert set(error) == {"loc", "msg"}, f"{asked}: {content!r}"
        assert error["loc"][0] in ("path", "query", "body"), f"{asked}: {content!r}"
        assert isinstance(error["msg"], str) and error["msg"], f"{asked}: {content!r}"
    assert status != 422 or body["errors"], f"{asked}: {content!r}"
    assert body.get("authenticated") is (False if status == 401 else None), f"{asked}: {content!r}"
    return Answer(status, headers, body)


class Api:
    """A client of one server. Paths are sent unchanged, so they must be percent-encoded."""

    def __init__(self, url: str, session: ClientSession, rec: RecServer) -> None:
        self.url, self.rec = url, rec
        self._session = session

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and check its response. ``body`` is sent as JSON, ``raw`` unchanged."""
        content = raw if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if content is not None else {}
        async with self._session.request(
            method,
            URL(self.url + path, encoded=True),
            data=content and BytesIO(content),  # aiohttp warns of large bytes
            headers=sent | dict(headers or {}),
            skip_auto_headers=["Content-Type"],
        ) as response:
            asked = f"{method} {path[:200]} {(content or b'')[:200]!r}"
            answer = checked(response.status, response.headers, await response.read(), asked)
        check_response(method, path, answer.status, "application/json", answer.body)
        return answer

    async def get(self, path: str) -> Answer:
        return await self.ask("GET", path)

    async def post(self, path: str, body: object = None) -> Answer:
        return await self.ask("POST", path, body)

    async def ok(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The body of a response that must be 200."""
        answer = await self.ask(method, path, body)
        assert answer.status == 200, f"{method} {path}: {answer.body}"
        return dict(answer.body)

    async def lines(self, path: str, body: object) -> list[dict[str, Any]]:
        """The lines of a response that must be 200 and newline-delimited JSON."""
        async with self._session.post(self.url + path, json=body) as response:
            content = await response.read()
            assert response.status == 200, content
            assert response.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
        assert not content or content.endswith(b"\n")
        lines = [json.loads(line) for line in content.splitlines()]
        for line in lines:
            check_response("POST", path, 200, "application/x-ndjson", line)
        return lines

    async def wire(self, content: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes that need not be HTTP; (status, headers, body) of the response, status 0 if there is none."""
        reader, writer = await asyncio.open_connection(URL(self.url).host, URL(self.url).port)
        try:
            writer.write(content)
            async with asyncio.timeout(20):
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode().strip().split("\r\n")
                headers = {name.title(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("Content-Length", 0)))
            return int(first.split()[1]), headers, body
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, {}, b""
        finally:
            writer.close()


Serve = Callable[[RecServer], Awaitable[Api]]
"""Opens a server unless it is open, and serves it over HTTP until the test ends."""
