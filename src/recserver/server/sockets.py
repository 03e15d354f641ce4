"""Where servers listen: a port for one process, or shared by several; a socket that only some can reach."""

from __future__ import annotations

import socket
from pathlib import Path

from recserver.core.errors import ServerCannotStart
from recserver.server.settings import Settings

BACKLOG = 1024
"""Connections that may wait to be accepted."""


def listen(settings: Settings, *, shared: bool = False) -> socket.socket:
    """A socket that listens on the settings' address; who connects waits until the server has opened.

    Args:
        beside: whether other processes of the same service listen there; else nobody may, whatever they say.

    Raises:
        ServerCannotStart: if the address cannot be had.
    """
    try:
        address, family = _address(settings), _family(settings)
        return socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=shared)
    except OSError as error:
        raise _listen_error(settings, error) from None


def allow_sharing(listener: socket.socket) -> None:
    """Let others of this user listen beside a socket that listened alone.

    A port that was shared from the beginning could be shared with a stranger who says the same.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def listen_unix(path: Path) -> socket.socket:
    """A Unix socket that listens at ``path``, in place of one that a killed process left there.

    Raises:
        ServerCannotStart: if there can be none: its folder may be gone.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ServerCannotStart(
            f"There can be no socket in the temporary folder {path.parent} ({error.strerror}): "
            "start recserver again, with TMPDIR set to a folder that stays."
        ) from None
    return listener


def reserve_address(settings: Settings) -> socket.socket:
    """A socket that has the settings' address, and the port that 0 stands for, without listening there.

    As long as it is open, only processes of this user that share the port may listen on it.

    Raises:
        ServerCannotStart: if the address cannot be had.
    """
    holder = socket.socket(_family(settings))
    try:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            holder.setsockopt(socket.SOL_SOCKET, option, 1)
        if holder.family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as create_server does
        holder.bind(_address(settings))
    except OSError as error:
        holder.close()
        raise _listen_error(settings, error) from None
    return holder


def base_url(host: str, port: int) -> str:
    """The address that people use."""
    host = host.strip("[]")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _family(settings: Settings) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in settings.host else socket.AF_INET


def _address(settings: Settings) -> tuple[str, int]:
    return settings.host.strip("[]"), settings.port


def _listen_error(settings: Settings, error: OSError) -> ServerCannotStart:
    return ServerCannotStart(
        f"Cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): "
        "choose another with --host or --port."
    )
