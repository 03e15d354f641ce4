"""Listening sockets and their URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from recserver._internal.core.errors import ServerCannotStart
from recserver._internal.server.sockets import base_url, listen_unix


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6_addresses_are_shown_in_brackets(host: str) -> None:
    assert base_url(host, 80) == "http://[::1]:80"


def test_a_missing_socket_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServerCannotStart, match="start recserver again"):
        listen_unix(tmp_path / "gone" / "requests")
