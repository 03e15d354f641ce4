"""Access control by the API key and the Host and Origin headers."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import web

from recserver._internal.core.errors import HostNotAllowed, OriginNotAllowed, Unauthorized, quoted
from recserver._internal.server.settings import is_loopback


@dataclass(frozen=True, slots=True)
class Access:
    """Checks requests before they are handled.

    Attributes:
        api_key: the key that requests must send; None allows every request to a loopback name.
        allowed_origins: web origins, besides the server's own, whose pages may send requests.
    """

    api_key: str | None = None
    allowed_origins: tuple[str, ...] = ()

    def check(self, request: web.Request, *, needs_key: bool) -> None:
        """Check a request.

        Raises:
            HostNotAllowed, OriginNotAllowed, Unauthorized: if it is not allowed.
        """
        if self.api_key is None and not _names_loopback(request.headers.get("Host", "")):
            raise HostNotAllowed(  # prevents DNS rebinding
                "Without an API key this server answers on loopback names only, such as localhost: "
                "use one, or set RECSERVER_API_KEY."
            )
        for origin in request.headers.getall("Origin", ()):
            if not self._is_allowed_origin(origin, request):
                raise OriginNotAllowed(
                    f"Pages of {quoted(origin)} may not use this server: add it to RECSERVER_ALLOWED_ORIGINS."
                )
        if needs_key and self.api_key is not None and not self._has_key(request, self.api_key):
            raise Unauthorized(
                "The API key is missing or wrong: send it as X-API-Key or as Authorization: Bearer."
            )

    def _is_allowed_origin(self, origin: str, request: web.Request) -> bool:
        own = f"{request.scheme}://{request.headers.get('Host', '')}".lower()
        return origin.lower() == own or origin.lower() in self.allowed_origins

    def _has_key(self, request: web.Request, key: str) -> bool:
        keys = list(request.headers.getall("X-API-Key", ()))
        for header in request.headers.getall("Authorization", ()):
            scheme, _, credentials = header.partition(" ")
            if scheme.lower() == "bearer":
                keys.append(credentials)
        return any(hmac.compare_digest(one.encode("utf-8", "replace"), key.encode()) for one in keys)


@lru_cache(256)
def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return bool(name) and is_loopback(str(name))
