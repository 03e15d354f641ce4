"""Kept versions when files are damaged, missing or put in place by hand, and when the disk is full."""

from __future__ import annotations

import errno
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from recserver import Settings
from recserver._internal.core.errors import ModelNotTrained, UnreadableModel, VersionNotFound
from recserver._internal.core.events import RunEnded
from recserver._internal.storage import atomic_files as files
from tests.helpers.versioned import answers, damaged, interactions, kept, models_of, run, trained, trio, versions
from tests.helpers.workbench import Workbench

pytestmark = pytest.mark.slow


def damage(path: Path) -> None:
    """Change a byte in the middle of a file, in place."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def scheduled(bench: Workbench, users: int) -> RunEnded:
    """The next scheduled run, which finds that many users."""
    await bench.clock.advance(100)
    return await bench.finish(interactions(users))


async def test_an_unpromoted_version_is_retrained_after_unpinning(bench: Workbench) -> None:
    await trained(bench, 1)
    await bench.rec.pin_model_version("m", model_version=1)
    assert (await run(bench, 110)).model_version == 2
    assert (await scheduled(bench, 110)).outcome == "unchanged"
    await bench.rec.pin_model_version("m", model_version=1, pinned=False)
    assert (await scheduled(bench, 110)).model_version == 3
    assert await answers(bench) == 3
    assert (await scheduled(bench, 110)).outcome == "unchanged"


async def test_a_rejected_version_is_retrained_when_it_would_pass(bench: Workbench) -> None:
    await trained(bench, 1)
    assert (await run(bench, 40)).outcome == "failed"
    assert (await scheduled(bench, 40)).outcome == "unchanged"
    await bench.rec.update_quality_gate("m", min_share=0.1)
    assert (await scheduled(bench, 40)).outcome == "completed"
    assert await answers(bench) == 3


async def test_a_version_that_was_lost_is_made_again(bench: Workbench) -> None:
    await trained(bench, 3)
    damage(models_of(bench) / "m.pkl")  # and with it the kept version, which is the same file
    await bench.look()
    assert await answers(bench) == 2
    assert (await scheduled(bench, 102)).model_version == 4
    assert await answers(bench) == 4


async def test_a_damaged_file_is_quarantined_once_the_disk_has_space(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trained(bench, 2)
    damage(models_of(bench) / "m.pkl")
    bench.rec._services.model_cache.remove("m")
    with monkeypatch.context() as patch:
        patch.setattr(files.disk, "create", full)
        for _ in range(2):
            with pytest.raises(ModelNotTrained, match=r"\(No space left on device\): check the disk"):
                await bench.rec.recommend("u0001", model_id="m")
            await bench.look()
    await bench.look()
    assert (await answers(bench), trio(bench)) == (1, (1, 1, 1))


async def test_damage_found_by_a_listing_is_repaired(bench: Workbench) -> None:
    await trained(bench, 2)
    os.truncate(models_of(bench) / "m.pkl", 100)
    bench.rec._services.model_cache.remove("m")
    assert (await bench.rec.list_models())["m"]["needs_training"] is True
    assert (await answers(bench), trio(bench)) == (1, (1, 1, 1))


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("lost", "expected"), [("", 3), ("3.pkl", 2), ("3.json", 2)], ids=["nothing else", "its copy", "its record"]
)
async def test_a_missing_file_is_put_back(
    data_dir: Path, settings: Settings, restarted: bool, lost: str, expected: int
) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await trained(bench, 3)
        if not restarted:
            (models_of(bench) / "m.pkl").unlink()
            if lost:
                (data_dir / "models/.versions/m" / lost).unlink()
            await bench.look()
            assert (await answers(bench), trio(bench)) == (expected, (expected,) * 3)
            return
    (data_dir / "models/m.pkl").unlink()
    (data_dir / "tasks/t.json").unlink()
    if lost:
        (data_dir / "models/.versions/m" / lost).unlink()
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await bench.look()
        assert trio(bench) == (expected,) * 3
        info = await bench.rec.get_model_info("m")
        assert (info["status"], info["needs_training"]) == ("completed", False)
        assert await answers(bench) == expected


async def test_the_chosen_version_is_restored_and_stays_chosen(bench: Workbench) -> None:
    await trained(bench, 3)
    await bench.rec.rollback_model("m")
    (models_of(bench) / "m.pkl").unlink()
    await bench.look()
    assert (await answers(bench), trio(bench)) == (2, (2, 2, 2))
    assert (await scheduled(bench, 102)).outcome == "unchanged"


async def test_a_missing_file_is_put_back_once_the_disk_has_space(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trained(bench, 2)
    (models_of(bench) / "m.pkl").unlink()
    bench.rec._services.model_cache.remove("m")
    with monkeypatch.context() as patch:
        patch.setattr(files.disk, "create", full)
        with pytest.raises(ModelNotTrained, match="no stored version can replace it at the moment"):
            await bench.rec.recommend("u0001", model_id="m")
    await bench.look()
    assert (await answers(bench), trio(bench)) == (2, (2, 2, 2))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "is missing, and no stored version can replace it: train the model again."),
        (
            {"status": "failed", "error": "The source is away."},
            "missing, and no stored version can replace it, and its last training failed (The source is away.)",
        ),
        ({"status": "training"}, "is missing, and the model is being trained"),
        ({"status": "failed", "error": "Away.", "model_version": None}, "was never trained; its last training"),
    ],
)
async def test_where_nothing_can_be_put_back_the_reason_is_true(
    bench: Workbench, config: dict[str, Any], said: str
) -> None:
    await trained(bench, 1)
    for path in (models_of(bench) / "m.pkl", kept(bench, 1), kept(bench, 1, "json")):
        path.unlink()
    path = models_of(bench) / "m_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    bench.rec._services.model_cache.remove("m")
    with pytest.raises(ModelNotTrained) as refused:
        await bench.rec.recommend("u0001", model_id="m")
    assert said in str(refused.value)


async def test_a_read_only_server_leaves_a_missing_file_to_the_writer(data_dir: Path, settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        await trained(await Workbench.open(stack, data_dir, settings), 2)
    (data_dir / "models/m.pkl").unlink()
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings.model_copy(update={"read_only": True}))
        with pytest.raises(ModelNotTrained, match="the server that writes the folder looks for a stored version"):
            await bench.rec.recommend("u0001", model_id="m")
    assert not (data_dir / "models/m.pkl").exists()


@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
async def test_a_path_that_is_not_a_regular_file_is_not_touched(bench: Workbench, kind: str) -> None:
    await trained(bench, 1)
    path = models_of(bench) / "m.pkl"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    await bench.look()
    assert await answers(bench) == 1  # from memory
    assert os.path.lexists(path) and not path.is_file()


async def test_damaged_versions_are_named_and_passed_over(bench: Workbench) -> None:
    await trained(bench, 5)
    damage(kept(bench, 4))
    os.truncate(kept(bench, 3), 100)
    kept(bench, 2, "json").write_text("{")
    said = await damaged(bench)
    assert list(said) == [4, 3, 2]
    assert said[4] == "its content is not what was stored"
    assert said[3].startswith("its file has 100 bytes instead of ")
    assert said[2] == "its record 2.json is missing or cannot be read"
    assert (await bench.rec.rollback_model("m"))["model_version"] == 1
    kept(bench, 4).unlink()
    assert (await damaged(bench))[4] == "its file 4.pkl is missing"


@pytest.mark.parametrize("number", [2, 3])
async def test_the_error_about_a_damaged_version_names_alternatives(bench: Workbench, number: int) -> None:
    await trained(bench, 4)
    damage(kept(bench, 2))
    kept(bench, 3, "json").write_text("{")
    for verb in (bench.rec.rollback_model, bench.rec.promote_model):
        with pytest.raises(UnreadableModel) as refused:
            await verb("m", model_version=number)
        assert str(refused.value).startswith(f"Version {number} of model 'm' is damaged (its ")
        assert str(refused.value).endswith("): use another, such as 1.")
    damage(kept(bench, 1))
    with pytest.raises(UnreadableModel, match="there is no other version, train the model again"):
        await bench.rec.rollback_model("m", model_version=number)
    assert (await answers(bench), trio(bench)) == (4, (4, 4, 4))


@pytest.mark.parametrize("content", [b"{", b'{"model_version": 9}', None])
async def test_a_damaged_record_loses_no_pin(bench: Workbench, content: bytes | None) -> None:
    await trained(bench, 2)
    await bench.rec.pin_model_version("m", model_version=1)
    kept(bench, 1, "json").unlink()
    if content is not None:
        kept(bench, 1, "json").write_bytes(content)
    for number in range(6):
        await run(bench, 110 + number)
    assert (await versions(bench))[-1] == (1, False, False, True)
    assert list(await damaged(bench)) == [1]
    assert kept(bench, 1).exists()
    await bench.rec.pin_model_version("m", model_version=1, pinned=False)
    assert [one[0] for one in await versions(bench)] == [8, 7, 6, 5, 4]


async def test_a_pinned_version_keeps_serving_without_its_record(bench: Workbench) -> None:
    await trained(bench, 1)
    await bench.rec.pin_model_version("m", model_version=1)
    kept(bench, 1, "json").write_text("{")
    await run(bench, 110)
    assert await versions(bench) == [(2, False, False, False), (1, True, True, True)]
    assert (await answers(bench), await damaged(bench)) == (1, {})


async def test_going_back_never_leads_forward(bench: Workbench) -> None:
    await trained(bench, 4)
    for promoted, expected in ((2, [1]), (4, [1]), (3, [1]), (4, [1])):
        await bench.rec.promote_model("m", model_version=promoted)
        seen = []
        with pytest.raises(VersionNotFound):
            while True:
                seen.append((await bench.rec.rollback_model("m"))["model_version"])
        assert seen == expected
    await bench.rec.promote_model("m", model_version=2)
    await bench.rec.promote_model("m", model_version=4)
    assert [(await bench.rec.rollback_model("m"))["model_version"] for _ in range(2)] == [2, 1]


async def test_a_rejected_version_is_no_rollback_target(bench: Workbench) -> None:
    await trained(bench, 1)
    await run(bench, 40)
    await run(bench, 120)
    assert (await bench.rec.rollback_model("m"))["model_version"] == 1


async def test_what_is_in_the_way_is_named(bench: Workbench) -> None:
    (models_of(bench) / ".versions").mkdir()
    (models_of(bench) / ".versions/m").write_text("a file")
    await bench.add_task()
    ended = await bench.finish(interactions(100))
    assert ended.error == f"The model could not be saved: File exists: {models_of(bench)}/.versions/m."


async def test_the_list_tells_what_all_files_take(bench: Workbench) -> None:
    await trained(bench, 3)
    there = [path for path in models_of(bench).rglob("m*") if path.is_file()]
    there += (models_of(bench) / ".versions/m").iterdir()
    sizes = {path.stat().st_ino: path.stat().st_size for path in there}
    assert (await bench.rec.list_model_versions("m"))["bytes"] == sum(sizes.values())
