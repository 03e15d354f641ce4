"""Secrets are masked, restored from masks, and never sent to another host."""

from __future__ import annotations

import pytest

from recserver._internal.chefs.secrets import (
    MASK,
    expand_environment,
    mask_entry,
    mask_url,
    missing_variables,
    restore_masked,
    scrub,
    secret_values,
)
from recserver._internal.core.errors import InvalidInput, SourceFailed

CANARY = "c4n4ry-Pa55"

CONNECTIONS = [
    ("postgresql://u:{}@db.example:5432/shop", CANARY),
    ("postgresql://u:{}@db.example/shop?sslmode=require", "p%40ss%2Fword"),
    ("postgresql://u:{}@db.example/shop", "p@ss:wo@rd"),
    ("postgresql://u:{}@db.example/shop", "12/34?5#6"),
    ("mysql://:{}@[::1]:3306/shop", CANARY),
    ("postgresql://db.example/shop?user=u&password={}", CANARY),
    ("mssql+pyodbc:///?odbc_connect={}", "Driver%3DX%3BPWD%3Dsecret"),
]


@pytest.mark.parametrize(("template", "secret"), CONNECTIONS)
def test_secrets_of_a_connection_are_masked_and_restored(template: str, secret: str) -> None:
    entry = {"type": "sql", "connection": template.format(secret)}
    shown = mask_entry(entry)
    assert shown == {"type": "sql", "connection": template.format(MASK)}
    assert mask_entry(entry) != entry
    assert restore_masked(shown, entry) == entry


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/x?api_key=abc&page=1", f"http://h/x?api_key={MASK}&page=1"),
        ("http://h/x?page=1&Access-Token=a;b#f", f"http://h/x?page=1&Access-Token={MASK}#f"),
        ("http://h/x?client%5Fsecret=abc", f"http://h/x?client%5Fsecret={MASK}"),
        ("http://h/x?%74oken=abc", f"http://h/x?%74oken={MASK}"),
        ("http://h/#access_token=abc", f"http://h/#access_token={MASK}"),
        ("http://u:pw@h/x", f"http://u:{MASK}@h/x"),
        ("http://u:p/w@h/x", f"http://u:{MASK}@h/x"),
        ("http://h:8080/x?mail=a@b", "http://h:8080/x?mail=a@b"),
        ("http://h:${PORT}/x?mail=a@b", "http://h:${PORT}/x?mail=a@b"),
        ("http://h/x?token=", "http://h/x?token="),
        ("http://h/x?token=${TOKEN}", "http://h/x?token=${TOKEN}"),
        ("http://h/x?token=ab${TOKEN}", f"http://h/x?token={MASK}"),
        ("not a url", "not a url"),
    ],
)
def test_secrets_of_a_url_are_masked(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_the_password_of_a_database_config_is_masked() -> None:
    config = {"type": "mysql", "host": "h", "user": "u", "password": CANARY, "database": "d"}
    entry = {"type": "sql", "query": "SELECT 1", "db_config": config}
    assert mask_entry(entry)["db_config"] == {**config, "password": MASK}
    assert restore_masked(mask_entry(entry), entry) == entry
    assert entry["db_config"] is config


def test_numeric_passwords_are_masked() -> None:
    assert mask_entry({"db_config": {"password": 1234}}) == {"db_config": {"password": MASK}}


def test_text_in_place_of_an_object_is_masked() -> None:
    entry = {"db_config": CANARY, "auth": CANARY, "headers": CANARY}
    assert mask_entry(entry) == dict.fromkeys(entry, MASK)


def test_references_are_not_masked() -> None:
    entry = {"db_config": {"password": "${PW}"}, "connection": "postgresql://u:${PW}@h/d"}
    assert mask_entry(entry) == entry
    assert mask_entry({"type": "csv", "path": "a.csv"}) == {"type": "csv", "path": "a.csv"}


@pytest.mark.parametrize(
    "change",
    [
        {"host": "evil.example"},
        {"port": 5433},
        {"type": "mysql"},
    ],
)
def test_a_masked_password_is_rejected_for_another_host(change: dict[str, object]) -> None:
    config = {"type": "postgresql", "host": "db", "port": 5432, "password": CANARY}
    with pytest.raises(InvalidInput) as caught:
        restore_masked({"db_config": {**config, "password": MASK, **change}}, {"db_config": config})
    assert caught.value.errors[0].loc == ("db_config", "password")
    assert CANARY not in str(caught.value)


def test_hosts_are_compared_without_regard_to_case() -> None:
    stored = {"db_config": {"type": "postgresql", "host": "DB", "password": CANARY}}
    new = {"db_config": {"type": "PostgreSQL", "host": "db", "port": "5432", "user": "x", "password": MASK}}
    assert restore_masked(new, stored)["db_config"]["password"] == CANARY


@pytest.mark.parametrize(
    ("key", "stored", "new"),
    [
        ("url", "https://real.example/x?token=c4n4ry-Pa55", f"https://evil.example/x?token={MASK}"),
        ("url", "https://real.example/x?token=c4n4ry-Pa55", f"http://real.example/x?token={MASK}"),
        ("url", "https://real.example/x?token=c4n4ry-Pa55", f"https://real.example:8443/x?token={MASK}"),
        ("url", "https://real.example/x?token=c4n4ry-Pa55", f"https://real.example\\@evil/x?token={MASK}"),
        ("url", "https://real.example/x?token=c4n4ry-Pa55", f"https://real.example/x?api_key={MASK}"),
        ("connection", "postgresql://u:c4n4ry-Pa55@real/d", f"postgresql://u:{MASK}@evil/d"),
        ("connection", "postgresql://u:c4n4ry-Pa55@real/d", f"postgresql://u:{MASK}@real/d?host=evil"),
        ("connection", "postgresql://u:c4n4ry-Pa55@real/d", f"postgresql://u:{MASK}@real/d?hostaddr=1.2.3.4"),
    ],
)
def test_a_masked_url_is_rejected_for_another_host(key: str, stored: str, new: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        restore_masked({key: new}, {key: stored})
    assert CANARY not in str(caught.value)


def test_other_parts_of_a_url_may_change() -> None:
    stored = {"url": "https://real.example/x?token=abc&page=1"}
    new = {"url": f"https://REAL.example:443/y?size=2&token={MASK}"}
    assert restore_masked(new, stored) == {"url": "https://REAL.example:443/y?size=2&token=abc"}


@pytest.mark.parametrize("stored", [None, {}, {"db_config": None}, {"db_config": {"password": MASK}}])
def test_a_mask_without_a_stored_secret_is_rejected(stored: dict[str, object] | None) -> None:
    with pytest.raises(InvalidInput, match="enter the secret itself"):
        restore_masked({"db_config": {"password": MASK}}, stored)
    with pytest.raises(InvalidInput, match="enter the secret itself"):
        restore_masked({"url": f"http://h/?token={MASK}"}, stored)


def test_new_secrets_replace_the_stored_ones() -> None:
    stored = {"db_config": {"host": "a", "password": "old"}, "url": "http://h/?token=old"}
    new = {"db_config": {"host": "b", "password": "new"}, "url": "http://i/?token=new"}
    assert restore_masked(new, stored) == new
    assert restore_masked({"db_config": None, "query": "q"}, stored) == {"db_config": None, "query": "q"}


def test_references_are_replaced_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", "p@ss/${HOST}w:rd")
    monkeypatch.setenv("HOST", "db.example:5433")
    monkeypatch.setenv("DSN", "postgresql://u:x@h/d")
    entry = {
        "connection": "postgresql://u:${PW}@${HOST}/d",
        "url": "http://${HOST}/${HOST}?token=${PW}&q=a",
        "db_config": {"password": "${PW}", "port": 1, "list": ["${HOST}"]},
        "path": "${unset",
    }
    assert expand_environment(entry) == {
        "connection": "postgresql://u:p%40ss%2F%24%7BHOST%7Dw%3Ard@db.example:5433/d",
        "url": "http://db.example:5433/db.example:5433?token=p%40ss%2F%24%7BHOST%7Dw%3Ard&q=a",
        "db_config": {"password": "p@ss/${HOST}w:rd", "port": 1, "list": ["db.example:5433"]},
        "path": "${unset",
    }
    assert expand_environment({"connection": "${DSN}"}) == {"connection": "postgresql://u:x@h/d"}


def test_a_missing_variable_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)
    entry = {"db_config": {"password": "${NO_SUCH}"}}
    assert missing_variables(entry) == ["NO_SUCH"]
    with pytest.raises(SourceFailed, match="NO_SUCH"):
        expand_environment(entry)


def test_scrubbing_removes_every_form_of_a_secret() -> None:
    secrets = secret_values({"connection": "postgresql://u:p%40ss-word@h/d?token=ab"})
    assert scrub("p@ss-word p%40ss-word ab cab", secrets) == f"{MASK} {MASK} {MASK} cab"
    assert scrub("nothing", []) == "nothing"
