"""Settings from the environment, and their errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from recserver._internal.core.errors import ServerCannotStart
from recserver._internal.server.settings import load_settings


@pytest.mark.parametrize("written", ["/srv/a, /srv/b", '["/srv/a", "/srv/b"]', "/srv/a,/srv/b,"])
def test_lists_are_separated_by_commas_or_json(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("RECSERVER_CSV_ROOTS", written)
    assert load_settings().csv_roots == (Path("/srv/a"), Path("/srv/b"))


def test_keys_are_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSERVER_API_KEY", "  sixteen characters  ")
    key = load_settings(host="0.0.0.0").api_key
    assert key is not None
    assert key.get_secret_value() == "sixteen characters"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", ""),
        ("API_KEY", "short"),
        ("API_KEY", " " * 20),
        ("HOST", "0.0.0.0"),
        ("PORT", "70000"),
        ("PORT", "many"),
        ("ALLOWED_ORIGINS", "shop.example"),
        ("ALLOWED_ORIGINS", '["https://shop.example"'),
        ("SOURCE_TIMEOUT", "inf"),
        ("RESCAN_SECONDS", "nan"),
        ("RESCAN_SECONDS", "inf"),
        ("RESCAN_SECONDS", "1e-9"),
        ("SHUTDOWN_GRACE", "-1"),
        ("TRAINING_PROCESSES", "0"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_invalid_settings_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RECSERVER_{name}", value)
    with pytest.raises(ServerCannotStart, match=f"RECSERVER_{name}|RECSERVER_API_KEY") as refused:
        load_settings()
    assert "nput should" not in str(refused.value) and "String" not in str(refused.value)
