"""Versions: what is kept, what serves, what the gate refuses, and how people overrule it."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from recserver import Settings
from recserver._internal.core.errors import (
    InvalidInput,
    ModelNotFound,
    ModelNotTrained,
    UnreadableModel,
    VersionNotFound,
)
from recserver._internal.core.events import ModelServes, RunEnded
from recserver.testing import few_interactions
from tests.helpers.versioned import answers, interactions, run, trained, trio, versions
from tests.helpers.workbench import Workbench

pytestmark = pytest.mark.slow


async def test_the_newest_versions_are_retained(bench: Workbench) -> None:
    await trained(bench, 8)
    assert [one[0] for one in await versions(bench)] == [8, 7, 6, 5, 4]
    first = (await bench.rec.list_model_versions("m"))["data"][0]
    assert set(first) == {"model_version", "created_at", "metrics", "promoted", "serving", "pinned", "bytes"}
    assert first["bytes"] == (bench.rec.data_dir / "models" / "m.pkl").stat().st_size
    assert first["metrics"]["n_users"] == 107
    assert trio(bench) == (8, 8, 8)


async def test_rolling_back_goes_further_back_each_time_and_the_next_training_goes_on_counting(
    bench: Workbench,
) -> None:
    await trained(bench, 4)
    for expected in (3, 2, 1):
        said = await bench.rec.rollback_model("m")
        assert (said["model_id"], said["model_version"]) == ("m", expected)
        assert trio(bench) == (expected, expected, expected)
        assert await answers(bench) == expected
        info = await bench.rec.get_model_info("m")
        assert (info["model_metrics"]["n_users"], info["status"]) == (99 + expected, "completed")
    with pytest.raises(VersionNotFound, match="no earlier version that served"):
        await bench.rec.rollback_model("m")
    assert await answers(bench) == 1
    await bench.rec.rollback_model("m", model_version=3)
    assert await answers(bench) == 3
    assert (await run(bench, 110)).model_version == 5
    assert [one[:3] for one in await versions(bench)] == [
        (5, True, True), (4, True, False), (3, True, False), (2, True, False), (1, True, False)
    ]  # fmt: skip
    assert (await bench.rec.rollback_model("m"))["model_version"] == 3  # the one that served before 5 did


async def test_a_scheduled_run_does_not_bring_back_what_was_rolled_back(bench: Workbench) -> None:
    await trained(bench, 2)
    await bench.rec.rollback_model("m")
    await bench.clock.advance(100)
    assert (await bench.finish(interactions(101))).outcome == "unchanged"
    assert await answers(bench) == 1


async def test_a_version_survives_a_restart_and_can_be_rolled_back_to(data_dir: Path, settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await trained(bench, 3)
        await bench.rec.rollback_model("m")
        best = await bench.rec.recommend("u0001", model_id="m")
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        again = await bench.rec.recommend("u0001", model_id="m")
        assert (again["model_version"], again["predictions"]) == (2, best["predictions"])
        assert (await bench.rec.rollback_model("m", model_version=3))["model_version"] == 3
        assert await answers(bench) == 3


async def test_a_model_trained_before_versions_were_stored_keeps_its_version(bench: Workbench) -> None:
    await trained(bench, 1)
    folder = bench.rec.data_dir / "models" / ".versions" / "m"
    for path in folder.iterdir():
        path.unlink()
    assert await versions(bench) == [(1, True, True, False)]
    assert (await bench.rec.rollback_model("m", model_version=1))["model_version"] == 1
    assert (await run(bench, 120)).model_version == 2
    await bench.rec.rollback_model("m")
    assert await answers(bench) == 1
    assert trio(bench) == (1, 1, 1)


async def test_a_pinned_version_is_retained_and_keeps_serving(bench: Workbench) -> None:
    await trained(bench, 2)
    await bench.rec.pin_model_version("m", model_version=1)
    for number in range(6):
        assert (await run(bench, 110 + number)).outcome == "completed"
    assert [one[0] for one in await versions(bench)] == [8, 7, 6, 5, 4, 1]
    await bench.rec.rollback_model("m", model_version=1)
    ended = await run(bench, 130)
    assert (ended.outcome, ended.model_version, await answers(bench)) == ("completed", 9, 1)
    assert "version 1 is pinned" in (await bench.rec.get_model_info("m"))["training_warnings"][-1]
    assert trio(bench) == (1, 1, 1)
    assert (await versions(bench))[0] == (9, False, False, False)
    await bench.rec.pin_model_version("m", model_version=1, pinned=False)
    assert (await run(bench, 131)).model_version == 10
    assert await answers(bench) == 10
    assert [one[0] for one in await versions(bench)] == [10, 9, 8, 7, 6, 1]  # 1 is what 10 can be rolled back to


async def test_much_less_data_is_not_promoted_and_a_person_may_insist(bench: Workbench) -> None:
    await trained(bench, 1)
    ended = await run(bench, 40)
    assert (ended.outcome, ended.model_version) == ("failed", 2)
    assert ended.error == (
        "not promoted: version 2 is stored but does not serve, because it has 200 interactions and the serving "
        "version 1 has 500, and less than 50% of them is suspicious: check that the source is complete, or POST "
        "/promote_model."
    )
    info = await bench.rec.get_model_info("m")
    assert (info["status"], info["error"], info["model_version"]) == ("failed", ended.error, 1)
    assert (await bench.rec.get_run(ended.run_id))["model_version"] == 2
    assert await versions(bench) == [(2, False, False, False), (1, True, True, False)]
    assert (await answers(bench), trio(bench)) == (1, (1, 1, 1))
    await bench.clock.advance(100)  # the same data once more is not fitted again
    assert (await bench.finish(interactions(40))).outcome == "unchanged"
    assert (await bench.rec.get_model_info("m"))["error"] == ended.error
    await bench.rec.promote_model("m", model_version=2)
    info = await bench.rec.get_model_info("m")
    assert (info["status"], info.get("error"), info["model_version"]) == ("completed", None, 2)
    assert (await answers(bench), trio(bench)) == (2, (2, 2, 2))
    assert (await bench.rec.rollback_model("m"))["model_version"] == 1


async def test_force_passes_the_gate(bench: Workbench) -> None:
    await trained(bench, 1)
    ended = await run(bench, 40, force=True)
    assert (ended.outcome, ended.model_version, await answers(bench)) == ("completed", 2, 2)


async def test_every_model_has_thresholds_of_its_own(bench: Workbench) -> None:
    await trained(bench, 1)
    said = await bench.rec.update_quality_gate("m", min_share=0.1)
    assert (said["min_share"], said["max_drop"], said["beat_popularity"]) == (0.1, 0.1, True)
    assert (await bench.rec.get_model_info("m"))["status"] == "completed"
    assert (await run(bench, 40)).outcome == "completed"
    for wrong in ({"min_share": 2}, {"max_drop": "much"}, {"beat_popularity": 3}):
        with pytest.raises(InvalidInput):
            await bench.rec.update_quality_gate("m", **wrong)
    with pytest.raises(ModelNotFound):
        await bench.rec.update_quality_gate("n", min_share=0.1)
    path = bench.rec.data_dir / "models" / "m_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quality_gate": {"min_share": "half"}}))
    await bench.rec.run_task("t")
    ended = await bench.events.next(RunEnded)
    assert ended.outcome == "failed"
    assert "The quality_gate of model 'm' cannot be used (min_share: must be a number)" in str(ended.error)
    await bench.rec.create_model("n", algorithm="nmf", quality_gate={"max_drop": 1})
    assert (await bench.rec.list_models())["n"]["quality_gate"]["max_drop"] == 1


async def test_a_missing_version_is_no_rollback_target(bench: Workbench) -> None:
    for name in ("rollback_model", "promote_model", "pin_model_version"):
        verb = getattr(bench.rec, name)
        with pytest.raises(ModelNotFound):
            await verb("n", model_version=1)
        with pytest.raises(VersionNotFound, match="has no version 1"):
            await verb("m", model_version=1)
        with pytest.raises(InvalidInput):
            await verb("m", model_version=0)
    with pytest.raises(ModelNotFound):
        await bench.rec.list_model_versions("../models/m")
    assert (await bench.rec.list_model_versions("m"))["data"] == []


async def test_a_damaged_version_is_no_rollback_target(bench: Workbench) -> None:
    await trained(bench, 2)
    path = bench.rec.data_dir / "models" / ".versions" / "m" / "1.pkl"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UnreadableModel):
        await bench.rec.rollback_model("m")
    assert (await answers(bench), trio(bench)) == (2, (2, 2, 2))


async def test_requests_while_versions_change_are_answered_by_one_of_them(bench: Workbench) -> None:
    await trained(bench, 2)
    known = {}
    for number in (1, 2):
        await bench.rec.rollback_model("m", model_version=number)
        known[number] = (await bench.rec.recommend("u0001", model_id="m"))["predictions"]
    with bench.rec.events.listen() as events:
        changing = asyncio.ensure_future(_back_and_forth(bench, 20))
        answered = 0
        while not changing.done():
            got = await bench.rec.recommend("u0001", model_id="m")
            assert got["predictions"] == known[got["model_version"]]
            answered += 1
            await asyncio.sleep(0)
        await changing
        assert (await events.next(ModelServes)).model_id == "m"
    assert answered > 20


async def _back_and_forth(bench: Workbench, times: int) -> None:
    for number in range(times):
        await bench.rec.rollback_model("m", model_version=1 + number % 2)


async def test_deleting_removes_the_versions_and_can_be_tried_before(bench: Workbench) -> None:
    await trained(bench, 2)
    tried = await bench.rec.delete_model("m", dry_run=True)
    assert (tried["status"], tried["tasks_affected"]) == ("dry_run", ["t"])
    assert tried["files_deleted"] == [
        "models/m_config.json", "models/m_metadata.json", "models/m.pkl",
        "models/.versions/m/1.json", "models/.versions/m/1.pkl",
        "models/.versions/m/2.json", "models/.versions/m/2.pkl",
    ]  # fmt: skip
    assert await answers(bench) == 2
    deleted = await bench.rec.delete_model("m", force=True)
    assert deleted["files_deleted"] == tried["files_deleted"]
    assert not [path for path in (bench.rec.data_dir / "models").rglob("*") if path.is_file()]
    assert not (bench.rec.data_dir / "models" / ".versions" / "m").exists()


async def test_a_model_made_anew_begins_at_version_1(bench: Workbench) -> None:
    await trained(bench, 2)
    await bench.clock.advance(1)
    await bench.rec.create_model("m", algorithm="nmf", overwrite=True)
    assert (await bench.rec.list_model_versions("m"))["data"] == []
    await bench.clock.settle()
    assert (await bench.finish(few_interactions())).model_version == 1


@pytest.mark.parametrize("in_place", [False, True], ids=["another file", "written over"])
async def test_a_damaged_file_is_quarantined_and_the_newest_intact_version_serves(
    data_dir: Path, settings: Settings, caplog: pytest.LogCaptureFixture, in_place: bool
) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await trained(bench, 3)
        await run(bench, 40)  # refused, so not to be put in place
    path = data_dir / "models" / "m.pkl"
    damaged = path.read_bytes()[:-100] + bytes(100)
    if not in_place:
        path.unlink()  # else the kept version, which is the same file, is damaged too
    path.write_bytes(damaged)
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        expected = 2 if in_place else 3
        assert await answers(bench) == expected
        assert trio(bench) == (expected, expected, expected)
        info = await bench.rec.get_model_info("m")
        aside = data_dir / "models" / info["quarantined"]
        assert (aside.read_bytes(), aside.name[:13]) == (damaged, "m.pkl.broken-")
        assert f"its file is damaged and was renamed to {aside.name}" in caplog.text
        assert (await run(bench, 130)).model_version == 5
        assert "quarantined" not in await bench.rec.get_model_info("m")
        assert f"models/{aside.name}" in (await bench.rec.delete_model("m", force=True))["files_deleted"]
        assert not aside.exists()


@pytest.mark.parametrize("content", [b"", b"cposix\nsystem\n(S'true'\ntR.", b"not ours at all" * 100])
async def test_a_file_that_was_never_published_is_not_touched(
    data_dir: Path, settings: Settings, content: bytes
) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        path = data_dir / "models" / "n.pkl"
        path.write_bytes(content)
        (data_dir / "models" / "n_config.json").write_text('{"algorithm": "nmf", "status": "completed"}')
        await bench.look()
        assert (await bench.rec.list_models())["n"]["needs_training"] is True
        with pytest.raises(ModelNotTrained):
            await bench.rec.recommend("u", model_id="n")
        assert path.read_bytes() == content
        assert not list((data_dir / "models").glob("*.broken-*"))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no /proc/self/mem")
async def test_a_file_that_cannot_be_checked_is_rejected_and_not_touched(
    data_dir: Path, settings: Settings
) -> None:
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        await trained(bench, 1)
        path = data_dir / "models" / "m.pkl"
        path.unlink()
        path.symlink_to("/proc/self/mem")  # it says that it is empty, and fails when it is read
        await bench.look()
        assert await answers(bench) == 1
        bench.rec._services.model_cache.remove("m")
        assert (await bench.rec.list_models())["m"]["needs_training"] is True
        with pytest.raises(ModelNotTrained):
            await bench.rec.recommend("u0001", model_id="m")
        assert path.is_symlink()
