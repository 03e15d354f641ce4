"""Listening sockets: a port of one process or shared by several, and Unix sockets."""

from __future__ import annotations

import socket
from pathlib import Path

from recserver._internal.core.errors import ServerCannotStart
from recserver._internal.server.settings import Settings

BACKLOG = 1024
"""Maximum number of connections that wait to be accepted."""


def listen(settings: Settings, *, shared: bool = False) -> socket.socket:
    """A socket that listens on the settings' address. Clients wait until the server has opened.

    Args:
        shared: whether other processes of the same service listen on the port; otherwise none can.

    Raises:
        ServerCannotStart: if the address is not available.
    """
    try:
        family, address = _address(settings)
        return socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=shared)
    except OSError as error:
        raise _listen_error(settings, error) from None


def allow_sharing(listener: socket.socket) -> None:
    """Let other processes of this user listen on the port of a socket that was opened unshared.

    A port that is shared from the beginning may already be in use by an unrelated process.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def listen_unix(path: Path) -> socket.socket:
    """A Unix socket that listens at ``path``; replaces one that a killed process left behind.

    Raises:
        ServerCannotStart: if it cannot be created, as when its folder was removed.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ServerCannotStart(
            f"Cannot create a socket in the temporary folder {path.parent} ({error.strerror}): "
            "start recserver again, with TMPDIR set to a permanent folder."
        ) from None
    return listener


def reserve_address(settings: Settings) -> socket.socket:
    """A socket that is bound to the settings' address, with a free port in place of 0, without listening.

    While it is open, only processes of this user that share the port can listen on it.

    Raises:
        ServerCannotStart: if the address is not available.
    """
    family, address = _address(settings)
    holder = socket.socket(family)
    try:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            holder.setsockopt(socket.SOL_SOCKET, option, 1)
        if holder.family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as create_server does
        holder.bind(address)
    except OSError as error:
        holder.close()
        raise _listen_error(settings, error) from None
    return holder


def base_url(host: str, port: int) -> str:
    """The URL of a server."""
    host = host.strip("[]")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _address(settings: Settings) -> tuple[socket.AddressFamily, tuple[str, int]]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return family, (settings.host.strip("[]"), settings.port)


def _listen_error(settings: Settings, error: OSError) -> ServerCannotStart:
    return ServerCannotStart(
        f"Cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): "
        "choose another with --host or --port."
    )
