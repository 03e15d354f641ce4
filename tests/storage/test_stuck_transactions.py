"""Changes that the disk held up: what somebody puts in place meanwhile is not removed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from recserver._internal.storage import atomic_files as files
from recserver._internal.storage.transaction import record_path
from tests.helpers.three_versions import copied, recovered


def stuck_at(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let the disk refuse to remove the file called so, and all after it."""
    unlink = files.disk.unlink

    def refuse(path: Path) -> None:
        if path.name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path)

    patch.setattr(files.disk, "unlink", refuse)


def put_back(folder: Path, name: str, text: str) -> None:
    """Put a file in place by hand, later than all that was done before, as the file system's clock has it."""
    path, record = folder / name, record_path(folder, "m")
    path.write_text(text)
    while path.stat().st_ctime_ns <= record.stat().st_ctime_ns:  # a tick is a few milliseconds
        path.write_text(text)


@pytest.mark.parametrize("name", ["m_config.json", "m.pkl", "1.pkl", ".m.commit"])
async def test_what_was_put_back_while_a_deletion_was_stuck_stays(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    models, _ = await copied(before, tmp_path / "now")
    with monkeypatch.context() as patch:
        stuck_at(patch, name)
        await models.delete("m")
    mine = {"m_config.json": '{"mine": true}', "m.pkl": "mine"}
    for file, text in mine.items():
        put_back(models.folder, file, text)
    now = await recovered(models.folder)
    assert now.items() >= mine.items()
    assert not record_path(models.folder, "m").exists()
    assert await recovered(models.folder) == now


@pytest.mark.parametrize("name", ["m_config.json", "m.pkl", "1.pkl", "3.pkl", ".m.commit"])
async def test_a_deletion_that_was_stuck_is_done_later(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    models, _ = await copied(before, tmp_path / "now")
    with monkeypatch.context() as patch:
        stuck_at(patch, name)
        await models.delete("m")
    assert [one for one in await recovered(models.folder) if not one.startswith("other")] == []


async def test_a_deletion_whose_record_could_not_be_synced_removes_nothing_that_is_put_back(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, _ = await copied(before, tmp_path / "now")

    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(files.disk, "sync_folder", fail)
        stuck_at(patch, ".m.commit")
        with pytest.raises(OSError, match="Input/output"):
            await models.delete("m")
    put_back(models.folder, "m_config.json", '{"mine": true}')
    assert (await recovered(models.folder))["m_config.json"] == '{"mine": true}'
    assert (models.folder / "m.pkl").exists()
