"""``restaurant_data.yaml``: safe parsing, preserved entries, and protection from overwriting."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from recserver._internal.chefs.chef_store import ChefStore
from recserver._internal.core.errors import StorageUnreadable

LAUGHS = 'a0: &a0 ["x","x","x","x","x","x","x","x","x"]\n' + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
UNREADABLE = [
    '!!python/object/apply:os.getenv ["HOME"]',
    "a: !!python/name:os.system",
    "!!python/name:os.system : 1",
    "&a [*a]",
    "a: &a {x: 1}\nb: *a",
    "a: 1\na: 2",
    "a: {x: 1, x: 2}",
    "1: {}\n'1': {}",
    "x:\n\t- b",
    "[" * 10_000,
    "{a: " * 10_000,
    "a:\n" + "".join(f"{'  ' * n}- \n" for n in range(1, 60)),
    "- just a list",
    "just a text",
    "42",
    "a: {}\n--- \nb: {}",
    'a: "\\ud800"',
    "a: !!binary aGVsbG8=",
    "a: !!set {x, y}",
    "? [a, b]\n: 1",
    "a: \x07",
    "a: " + "9" * 5000,
    "a" * (2**20 + 1),
    LAUGHS,
]


@pytest.fixture
def store(tmp_path: Path) -> ChefStore:
    """A store whose file does not exist yet."""
    return ChefStore(tmp_path / "restaurant_data.yaml")


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_invalid_files_are_rejected_and_not_overwritten(store: ChefStore, text: str) -> None:
    store.path.write_text(text)
    async with asyncio.timeout(20):
        with pytest.raises(StorageUnreadable, match=r"^restaurant_data\.yaml cannot be (read|parsed)"):
            await store.read()
        with pytest.raises(StorageUnreadable):
            await store.put("c", {"type": "csv"})
        with pytest.raises(StorageUnreadable):
            await store.delete("a")
    assert store.path.read_text() == text


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "loop"])
async def test_special_files_are_rejected_without_blocking(store: ChefStore, kind: str) -> None:
    match kind:
        case "fifo":
            os.mkfifo(store.path)
        case "folder":
            store.path.mkdir()
        case "device":
            store.path.symlink_to("/dev/zero")
        case "loop":
            store.path.symlink_to(store.path.name)
    async with asyncio.timeout(20):
        with pytest.raises(StorageUnreadable):
            await store.read()


@pytest.mark.parametrize("text", ["", "null", "# nothing yet\n", "{}", "---\n"])
async def test_a_file_without_chefs_is_empty(store: ChefStore, text: str) -> None:
    assert await store.read() == {}
    store.path.write_text(text)
    assert await store.read() == {}


STRANGE_IDS = [
    "1", "0123", "1.0", "1e3", "NO", "on", "null", "~", "2026-01-02", "12:30:00", "<<", "0x1f", "1_000", ".nan",
]  # fmt: skip


@pytest.mark.parametrize("name", STRANGE_IDS)
async def test_ids_are_loaded_as_text(store: ChefStore, name: str) -> None:
    store.path.write_text(f"{name}: {{type: csv, path: a.csv}}\n")
    assert await store.read() == {name: {"type": "csv", "path": "a.csv"}}
    await store.put("other", {"type": "csv"})
    assert set(await store.read()) == {name, "other"}
    assert set(yaml.safe_load(store.path.read_text())) == {name, "other"}


async def test_entries_can_be_serialized_as_json(store: ChefStore) -> None:
    store.path.write_text(
        "c: {day: 2026-01-02, at: 2026-01-02T03:04:05Z, n: .nan, i: [-.inf, 1.5], yes: 1, 7: {}}"
    )
    entries = await store.read()
    assert json.loads(json.dumps(entries, allow_nan=False)) == {
        "c": {
            "day": "2026-01-02",
            "at": "2026-01-02T03:04:05Z",
            "n": ".nan",
            "i": ["-.inf", 1.5],
            "true": 1,
            "7": {},
        }
    }


async def test_unknown_keys_and_invalid_entries_are_preserved(store: ChefStore) -> None:
    store.path.write_text(
        "z: {type: CSV, path: a.csv, mine: [1, {deep: ü}], note: 2026-01-02}\n"
        "half: just a text\nnothing:\nlist: [1, 2]\nstrange: {type: telepathy, medium: tea}\n"
    )
    before = yaml.safe_load(store.path.read_text().replace("2026-01-02", "'2026-01-02'"))
    assert (await store.read())["half"] == (await store.read())["nothing"] == {}
    await store.put("a", {"type": "csv", "path": "b.csv"})
    after = yaml.safe_load(store.path.read_text())
    assert after.pop("a") == {"type": "csv", "path": "b.csv"}
    assert after == before
    assert list(yaml.safe_load(store.path.read_text())) == sorted([*before, "a"])
    await store.delete("z")
    await store.delete("z")
    assert "z" not in await store.read()
    assert "ü" not in store.path.read_text()


@pytest.mark.parametrize("before", [None, 0o644, 0o666])
async def test_the_file_is_readable_by_its_owner_only(store: ChefStore, before: int | None) -> None:
    if before is not None:
        store.path.write_text("a: {}\n")
        store.path.chmod(before)
    await store.put("c", {"type": "sql", "db_config": {"password": "x"}})
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


@pytest.mark.slow
async def test_concurrent_changes_are_not_lost(store: ChefStore) -> None:
    await asyncio.gather(*(store.put(f"c{number}", {"type": "csv", "n": number}) for number in range(60)))
    assert len(await store.read()) == 60
    await asyncio.gather(
        *(store.delete(f"c{number}") for number in range(0, 60, 2)),
        *(store.put(f"c{number}", {"type": "sql"}) for number in range(1, 60, 2)),
    )
    assert await store.read() == {f"c{number}": {"type": "sql"} for number in range(1, 60, 2)}
