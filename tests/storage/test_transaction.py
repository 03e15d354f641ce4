"""A model's files change together: whatever fails and whenever the power goes, all are old or all are new."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from recserver._internal.core.errors import InvalidInput, ModelChanged
from recserver._internal.registry.model_config import ConfigChange
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.registry.version_store import VersionStore
from recserver._internal.storage import atomic_files as files
from recserver._internal.storage.transaction import Transaction, complete, complete_all, record_path
from tests.helpers.failing_disk import FailingDisk, PowerCut
from tests.helpers.three_versions import content, copied, packed, publish, recovered, version

Operation = Callable[[ModelStore, VersionStore], Awaitable[object]]


async def keep(models: ModelStore, versions: VersionStore) -> None:
    await versions.store_candidate(
        "m", packed(models, 4), version(4), ConfigChange(ModelStatus.FAILED, (), {"error": "not promoted"})
    )


async def go_back(models: ModelStore, versions: VersionStore) -> None:
    await versions.activate("m", await versions.find("m", 2), ConfigChange())


async def pin(models: ModelStore, versions: VersionStore) -> None:
    await versions.update("m", (await versions.find("m", 1)).model_copy(update={"pinned": True}))


async def prune(models: ModelStore, versions: VersionStore) -> None:
    await versions.prune("m", {3})


async def delete(models: ModelStore, versions: VersionStore) -> None:
    await models.delete("m")


async def create(models: ModelStore, versions: VersionStore) -> None:
    await models.create("m", {"status": "initializing", "created_at": "now"})


async def move(models: ModelStore, versions: VersionStore) -> None:
    await models.update_config("m", ModelStatus.TRAINING)


async def adopt(models: ModelStore, versions: VersionStore) -> None:
    await versions.store_serving("m", models.model_path("m"), version(9))


async def mend(models: ModelStore, versions: VersionStore) -> None:
    status = await asyncio.to_thread(models.file_stat, "m")
    await versions.replace_damaged("m", await versions.find("m", 2), status, "m.pkl.broken-now", ["mine"])


ERRORS = errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EMFILE, errno.EDQUOT
OPERATIONS: list[Operation] = [publish, keep, go_back, pin, prune, delete, create, move, adopt, mend]


@pytest.fixture(autouse=True)
def nothing_is_synced() -> Iterator[None]:
    """The power goes only for a :class:`FailingDisk`, which knows what was synced without the real disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


async def done(before: Path, folder: Path, operation: Operation) -> dict[str, str]:
    await operation(*await copied(before, folder))
    return await recovered(folder)


async def steps_of(before: Path, folder: Path, operation: Operation, patch: pytest.MonkeyPatch) -> int:
    """How many operations on the disk an operation on a model takes."""
    parts = await copied(before, folder)
    disk = FailingDisk(folder)
    patch.setattr(files, "disk", disk)
    await operation(*parts)
    patch.undo()
    return disk.steps


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
async def test_the_power_may_go_at_any_moment(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: Operation
) -> None:
    def cut() -> None:
        raise PowerCut

    old, new = await recovered(before), await done(before, tmp_path / "new", operation)
    assert old != new
    seed = random.SystemRandom().randrange(2**32)
    lot, folder, left = random.Random(seed), tmp_path / "now", tmp_path / "left"
    found = Counter[str]()
    for step in range(1, await steps_of(before, folder, operation, monkeypatch) + 1):
        parts = await copied(before, folder)
        disk = await asyncio.to_thread(FailingDisk, folder, cut, step, for_ever=True)
        monkeypatch.setattr(files, "disk", disk)
        with pytest.raises(PowerCut):
            await operation(*parts)
        monkeypatch.undo()
        for _ in range(3):
            await asyncio.to_thread(disk.after_power_cut, left, lot)
            now = await recovered(left)
            assert now in (old, new), (operation, step, seed)
            found["old" if now == old else "new"] += 1
        now = await recovered(folder)  # only the process was killed
        assert now in (old, new), (operation, step)
        found["old" if now == old else "new"] += 1
    print(f"{operation.__name__}: {dict(found)}, 0 mixed")
    assert set(found) == {"old", "new"}


@pytest.mark.slow
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize(
    "numbers",
    [
        (errno.ENOSPC, errno.EIO),  # in turn
        *(pytest.param((one,), marks=pytest.mark.soak) for one in ERRORS),
    ],
    ids=lambda numbers: " ".join(map(os.strerror, numbers)),
)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
async def test_what_the_disk_refuses_has_not_happened(
    before: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operation: Operation,
    numbers: tuple[int, ...],
    for_ever: bool,
) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    old, new = await recovered(before), await done(before, tmp_path / "new", operation)
    folder = tmp_path / "now"
    for step in range(1, await steps_of(before, folder, operation, monkeypatch) + 1):
        number = numbers[step % len(numbers)]
        parts = await copied(before, folder)
        disk = await asyncio.to_thread(FailingDisk, folder, fail, step, for_ever=for_ever)
        monkeypatch.setattr(files, "disk", disk)
        try:
            await operation(*parts)
            refused = False
        except OSError as error:
            assert error.errno == number
            refused = True
        monkeypatch.undo()
        if refused and not for_ever:
            found = await asyncio.to_thread(content, folder)
            litter = [name for name in found if name.endswith(".tmp") and "m.pkl" not in name]
            assert not litter, (step, litter)
        now = await recovered(folder)
        # A disk that is gone for good takes nothing back: then it is done later. One file renamed is renamed.
        assert now == old if refused and not for_ever and operation is not move else now in (old, new), step
        assert refused or now == new, step


async def test_a_change_that_is_not_finished_is_seen_as_done(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, versions = await copied(before, tmp_path / "now")
    replace = files.disk.replace

    def stuck(source: Path, path: Path) -> None:
        if path.suffix != ".commit":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, path)

    monkeypatch.setattr(files.disk, "replace", stuck)
    await publish(models, versions)
    assert (tmp_path / "now" / "m.pkl").read_text() == "version 3"
    assert (await models.read("m")).config["model_version"] == await versions.serving("m") == 4
    assert (await asyncio.to_thread(models.load_path, "m")).read_text() == "version 4"
    with pytest.raises(OSError, match="Input/output"):
        await models.delete("m")  # not before the other is finished
    monkeypatch.undo()
    await go_back(models, versions)
    assert (tmp_path / "now" / "m.pkl").read_text() == "version 2"
    assert [one.model_version for one in await versions.read_all("m")] == [4, 3, 2, 1]


@pytest.mark.parametrize("text", ["", "[]", '{"put": 1}', '{"put": [["../x", "m.pkl"]], "remove": []}',
                                  '{"put": [], "remove": ["/etc/hostname"]}'])  # fmt: skip
def test_an_invalid_record_is_renamed(before: Path, text: str) -> None:
    record = record_path(before, "m")
    (before.parent / "x").write_text("not ours")
    record.write_text(text)
    old = content(before)
    with pytest.raises(InvalidInput):
        complete(record)
    assert complete_all(before)
    old[".m.commit.broken"] = old.pop(".m.commit")
    assert content(before) == old
    assert (before.parent / "x").read_text() == "not ours"


async def test_changes_of_one_model_wait_for_each_other(before: Path) -> None:
    models = ModelStore(before)
    versions = VersionStore(models)
    await asyncio.gather(
        *(publish(models, versions, number) for number in range(4, 14)),
        *(models.update_config("m", ModelStatus.MODIFIED, **{f"k{number}": number}) for number in range(10)),
    )
    config = json.loads((before / "m_config.json").read_text())
    assert config["mine"] == "kept"
    assert [config[f"k{number}"] for number in range(10)] == list(range(10))
    assert len(await versions.read_all("m")) == 13
    assert (before / "m.pkl").samefile(versions.path("m", await versions.serving("m")))


def test_leaving_a_change_without_committing_changes_nothing(before: Path) -> None:
    old = content(before)
    with Transaction(before, "m") as changes:
        changes.write(before / "m_config.json", b"{}")
        changes.remove(before / "m.pkl")
    assert content(before) == old


async def test_a_start_at_which_the_disk_fails_loses_nothing_of_a_change(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a record names must not be taken for litter while it cannot be put in place."""

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    new, folder = await done(before, tmp_path / "new", publish), tmp_path / "now"
    replace = files.disk.replace

    def stuck(source: Path, path: Path) -> None:
        if path.suffix != ".commit":
            fail()
        replace(source, path)

    for step in range(1, 12):
        parts = await copied(before, folder)
        with monkeypatch.context() as patch:
            patch.setattr(files.disk, "replace", stuck)
            await publish(*parts)
        with monkeypatch.context() as patch:
            patch.setattr(files, "disk", FailingDisk(folder, fail, step))
            with suppress(OSError):
                await asyncio.to_thread(parts[0].recover)
        assert await recovered(folder) == new, step


async def test_a_file_that_is_another_by_now_is_not_replaced(before: Path) -> None:
    models = ModelStore(before)
    versions = VersionStore(models)
    old = content(before)
    for damaged in (None, (before / "m_config.json").stat()):
        with pytest.raises(ModelChanged, match="changed meanwhile"):
            await versions.replace_damaged("m", await versions.find("m", 2), damaged, "m.pkl.broken-now")
    assert content(before) == old


async def test_what_is_served_already_can_be_served_again_without_litter(before: Path) -> None:
    models = ModelStore(before)
    versions = VersionStore(models)
    await versions.activate("m", await versions.find("m", 3), ConfigChange())
    assert not [name for name in content(before) if name.endswith(".tmp")]
    await models.delete("m")
    assert list(content(before)) == ["other_config.json"]


async def test_a_status_is_not_overwritten_by_a_change_that_is_finished_later(
    before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ModelStore(before)
    replace = files.disk.replace

    def stuck(source: Path, path: Path) -> None:
        if path.suffix != ".commit":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, path)

    with monkeypatch.context() as patch:
        patch.setattr(files.disk, "replace", stuck)
        await publish(models, VersionStore(models))
    await models.update_config("m", ModelStatus.TRAINING)
    await asyncio.to_thread(ModelStore(before).recover)
    config = (await models.read("m")).config
    assert (config["status"], config["model_version"]) == ("training", 4)
