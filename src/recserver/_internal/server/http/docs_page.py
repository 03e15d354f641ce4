"""``GET /openapi.json``, and ``GET /docs``: Swagger UI, which shows it without any other site."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.resources import files

from aiohttp import web

from recserver._internal.core.errors import RouteNotFound
from recserver._internal.results.base import encode_json
from recserver._internal.server.http.codec import body_response

SWAGGER_UI = files("recserver._internal.server.http") / "swagger_ui"
"""The files of swagger-ui-dist, and the script that starts it."""

CONTENT_TYPES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "start.js": "text/javascript",
}

PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>recserver</title>
  <link rel="stylesheet" href="docs/swagger-ui.css">
  <link rel="icon" href="data:,">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="docs/swagger-ui-bundle.js"></script>
  <script src="docs/start.js"></script>
</body>
</html>
"""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Swagger UI's images have data URLs, and it sets styles of elements."""


def add_docs_routes(app: web.Application, prefix: str) -> None:
    """Add the document and the page under a prefix."""
    app.router.add_get(f"{prefix}/openapi.json", _document)
    app.router.add_get(f"{prefix}/docs", _page)
    app.router.add_get(f"{prefix}/docs/{{file}}", _file)


async def _document(_: web.Request) -> web.Response:
    return body_response(await asyncio.to_thread(_document_bytes))


@cache
def _document_bytes() -> bytes:
    from recserver._internal.server.http.openapi.document import openapi_document  # it is rarely needed

    return encode_json(openapi_document()) + b"\n"


async def _page(_: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html", charset="utf-8", headers=HEADERS)


async def _file(request: web.Request) -> web.Response:
    name = request.match_info["file"]
    if name not in CONTENT_TYPES:
        raise RouteNotFound("There is no such file: GET /docs is the page.")
    content = await asyncio.to_thread((SWAGGER_UI / name).read_bytes)
    response = web.Response(body=content, content_type=CONTENT_TYPES[name], charset="utf-8", headers=HEADERS)
    response.enable_compression()
    return response
