"""Where servers listen, and how that is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from recserver.core.errors import ServerCannotStart
from recserver.server.sockets import base_url, listen_unix


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_address_of_colons_is_told_in_brackets(host: str) -> None:
    assert base_url(host, 80) == "http://[::1]:80"


def test_without_their_folder_there_are_no_sockets(tmp_path: Path) -> None:
    with pytest.raises(ServerCannotStart, match="start recserver again"):
        listen_unix(tmp_path / "gone" / "requests")
