"""Allowed and denied addresses, in all notations."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from recserver._internal.chefs.ssrf_guard import GuardedSocketFactory, address_error, host_error, parse_address

LOOPBACK = [
    "127.0.0.1",
    "localhost",
    "localhost.",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
    # further ones
    "LOCALHOST",
    "shop.localhost",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::1]",
    "[::ffff:0:127.0.0.1]",
]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "[fd00::1]",
    "[::ffff:10.0.0.1]",
    # further ones
    "[64:ff9b::a00:1]",
    "[64:ff9b:1::a00:1]",
    "[fec0::1]",
    "192.0.2.1",
    "198.18.0.1",
]
NEVER = [
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.254.170.2",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "0",
    "0.0.0.0",
    "[::]",
    "224.0.0.1",
    "[ff02::1]",
    "255.255.255.255",
    # further ones
    "168.63.129.16",
    "[fe80::1%25eth0]",
    "[fd20:ce::254]",
    "[::169.254.169.254]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2001:0:a9fe:a9fe::1]",
    "[2001::5601:5601]",
    "240.0.0.1",
    "169.254.169.254.",
]
PUBLIC = ["93.184.216.34", "[2606:2800:220:1::1]", "[64:ff9b::5db8:d822]", "example.com", "10.example.com", "a.b"]


@pytest.mark.parametrize("host", NEVER)
@pytest.mark.parametrize("allow_private", [True, False])
def test_some_addresses_are_always_denied(host: str, allow_private: bool) -> None:
    assert "no data chef may reach it" in (host_error(host, allow_private=allow_private) or "")


@pytest.mark.parametrize("host", LOOPBACK + PRIVATE)
def test_private_addresses_depend_on_the_policy(host: str) -> None:
    assert host_error(host, allow_private=True) is None
    assert "RECSERVER_ALLOW_PRIVATE_SOURCES" in (host_error(host, allow_private=False) or "")


@pytest.mark.parametrize("host", PUBLIC)
def test_public_addresses_and_names_pass(host: str) -> None:
    assert host_error(host, allow_private=False) is None


@pytest.mark.parametrize("host", LOOPBACK + PRIVATE + NEVER)
def test_sockets_are_made_only_for_allowed_addresses(host: str) -> None:
    address = parse_address(host.strip("[]").rstrip(".")) or ip_address("127.0.0.1")
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    info = (family, socket.SOCK_STREAM, 6, "", (str(address), 80))
    for allow_private in (True, False):
        guard = GuardedSocketFactory(allow_private=allow_private)
        if allow_private and host not in NEVER:
            guard(info).close()
            assert guard.last_error == ""
        else:
            with pytest.raises(OSError):
                guard(info)
            assert guard.last_error == address_error(address, allow_private=allow_private)
