"""Protection against server-side request forgery: the network addresses that data chefs may connect to.

Hosts in URLs are checked first, without resolving names. The socket factory checks the addresses that a client
really connects to, redirects included, so DNS rebinding has no effect.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

Address = IPv4Address | IPv6Address
BLOCKED_NETWORKS = (
    IPv4Network("0.0.0.0/8"),  # this network: Linux connects 0.0.0.0 to itself
    IPv4Network("169.254.0.0/16"),  # link-local, with the metadata services of most clouds
    IPv4Network("100.100.100.200/32"),  # metadata: Alibaba
    IPv4Network("168.63.129.16/32"),  # metadata: Azure
    IPv4Network("192.0.0.192/32"),  # metadata: Oracle
    IPv4Network("224.0.0.0/4"),  # multicast
    IPv4Network("240.0.0.0/4"),  # reserved, broadcast
    IPv6Network("::/128"),
    IPv6Network("fe80::/10"),  # link-local
    IPv6Network("fd00:ec2::254/128"),  # metadata: AWS
    IPv6Network("fd20:ce::254/128"),  # metadata: Google
    IPv6Network("ff00::/8"),  # multicast
)
_SITE_LOCAL = IPv6Network("fec0::/10")
"""Deprecated private addresses, which Python considers global."""

_TEREDO = IPv6Network("2001::/32")
_IPV4_EMBEDDINGS = {
    IPv6Network("::ffff:0:0/96"): 0,  # mapped
    IPv6Network("::/96"): 0,  # compatible
    IPv6Network("::ffff:0:0:0/96"): 0,  # translated
    IPv6Network("64:ff9b::/96"): 0,  # NAT64
    IPv6Network("64:ff9b:1::/48"): 0,  # NAT64 of a local network
    IPv6Network("2002::/16"): 80,  # 6to4
    _TEREDO: 64,  # its server
}
"""IPv6 networks whose addresses embed an IPv4 address, and the number of bits after it."""

_NUMERIC_HOST = re.compile(r"[0-9a-fx.]+", re.IGNORECASE)


def address_error(address: Address, *, allow_private: bool) -> str | None:
    """The reason why ``address`` is denied, or None. IPv4 addresses embedded in IPv6 addresses are checked too."""
    forms = (address, *_embedded_ipv4(address))
    if any(form in network for form in forms for network in BLOCKED_NETWORKS):
        return f"{address} is a link-local, metadata, multicast or reserved address: no data chef may reach it"
    if not allow_private and any(_is_private(form) for form in forms):
        return (
            f"{address} is an address of this machine or of a private network: to allow those, set "
            "RECSERVER_ALLOW_PRIVATE_SOURCES=true"
        )
    return None


def host_error(host: str, *, allow_private: bool) -> str | None:
    """The reason why ``host`` is denied, or None. Names are not resolved."""
    name = unicodedata.normalize("NFKC", host).lower().strip("[]").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        name = "127.0.0.1"
    address = parse_address(name)
    return address_error(address, allow_private=allow_private) if address else None


def parse_address(host: str) -> Address | None:
    """The address in ``host``, in any form that resolvers accept (``127.1``, ``0x7f000001``); None for a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    if not _NUMERIC_HOST.fullmatch(host):
        return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


class GuardedSocketFactory:
    """Creates the sockets of an aiohttp connector, for allowed addresses only.

    Attributes:
        last_error: the reason of the last denial, which the connector's error does not contain; "" if none.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self.last_error = ""
        self._allow_private = allow_private

    def __call__(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for one result of ``getaddrinfo``.

        Raises:
            PermissionError: if its address is denied.
        """
        family, kind, protocol, _, sockaddr = info
        address = ip_address(str(sockaddr[0]).partition("%")[0])
        if problem := address_error(address, allow_private=self._allow_private):
            self.last_error = problem
            raise PermissionError(problem)
        return socket.socket(family, kind, protocol)


def _is_private(address: Address) -> bool:
    return address in _SITE_LOCAL or (not address.is_global and not _embedded_ipv4(address))


def _embedded_ipv4(address: Address) -> list[IPv4Address]:
    if isinstance(address, IPv4Address) or address.is_loopback or address.is_unspecified:
        return []
    found = [
        IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
        for network, shift in _IPV4_EMBEDDINGS.items()
        if address in network
    ]
    if address in _TEREDO:  # Teredo also embeds its client, with inverted bits
        found.append(IPv4Address(~int(address) & 0xFFFFFFFF))
    return found
