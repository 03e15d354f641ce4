"""A model's status on disk, as it happens; and what a training that goes wrong leaves behind."""

from __future__ import annotations

import errno
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from recserver import RecServer, Settings
from recserver._internal.algorithms.nmf.algorithm import nmf
from recserver._internal.core.errors import RecServerError
from recserver._internal.core.events import RunEnded
from recserver._internal.storage import atomic_files as files
from recserver.testing import few_interactions
from tests.helpers.workbench import Workbench


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was put in place in ``models/``: names of files, and of configs the status."""
    seen: list[str] = []
    replace = files.disk.replace

    def noting(temporary: Path, path: Path) -> None:
        replace(temporary, path)
        if path.name.endswith("_config.json"):
            seen.append(files.read_object(path)["status"])
        elif path.parent.name == "models" and path.suffix != ".commit":
            seen.append(path.name)

    monkeypatch.setattr(files.disk, "replace", noting)
    return seen


async def test_a_training_in_a_worker_process_goes_through_every_status(
    rec: RecServer, written: list[str]
) -> None:
    (rec.data_dir / "rows.csv").write_text(
        "user_id,item_id\n" + "".join(f"u{i % 7},i{i % 5}\n" for i in range(35))
    )
    await rec.create_model("m", algorithm="nmf", hyperparameters={"n_components": 2})
    await rec.create_data_chef_from_csv("c", file_path="rows.csv")
    with rec.events.listen() as events:
        await rec.add_model_task("t", model_id="m", data_chef_id="c", interval=3600)
        assert (await events.next(RunEnded)).outcome == "completed"
    assert written == ["initializing", "training", "validating", "m.pkl", "m_metadata.json", "completed"]
    info = await rec.get_model_info("m")
    assert (info["status"], info["in_training_state"], info["model_metrics"]["n_components"]) == (
        "completed",
        False,
        2,
    )


@pytest.mark.parametrize(
    ("how", "statuses"),
    [
        ("finish", ["training", "validating", "m.pkl", "m_metadata.json", "completed"]),
        ("unchanged", ["training", "completed"]),
        ("fail", ["training", "failed"]),
        ("stop", ["training", "stopped"]),
    ],
)
async def test_every_ending_has_its_statuses(
    bench: Workbench, written: list[str], how: str, statuses: list[str]
) -> None:
    await bench.trained()
    written.clear()
    await bench.clock.advance(100)
    assert written == ["training"]
    assert (await bench.rec.get_model_info("m"))["in_training_state"] is True
    match how:
        case "finish":
            await bench.finish(few_interactions(5))
        case "unchanged":
            await bench.finish()
        case "fail":
            await bench.fail()
        case "stop":
            await bench.rec.stop_scheduler()
    assert written == statuses


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("secret detail"), "Internal error of recserver: the server's log has the details."),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "The model could not be saved: No space left on device.",
        ),
        (RecServerError("Said on purpose."), "Said on purpose."),
    ],
)
async def test_whatever_is_raised_becomes_a_sentence(bench: Workbench, error: Exception, sentence: str) -> None:
    await bench.add_task()
    (await bench.trainings.next()).fail(error)
    ended = await bench.ended()
    assert (ended.outcome, ended.error) == ("failed", sentence)
    assert (await bench.rec.get_model_info("m"))["error"] == (await bench.task())["last_error"] == sentence


async def test_a_model_that_cannot_be_saved_has_failed_and_the_old_one_serves(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.trained()
    create = files.disk.create

    def full(path: Path, content: bytes, mode: int) -> None:
        if path.name.startswith(".m_metadata.json."):
            raise OSError(errno.ENOSPC, "No space left on device")
        create(path, content, mode)

    monkeypatch.setattr(files.disk, "create", full)
    await bench.clock.advance(100)
    ended = await bench.finish(few_interactions(5))
    assert ended.error == "The model could not be saved: No space left on device."
    assert (await bench.rec.recommend("u0", model_id="m"))["model_version"] == 1
    assert not [path for path in (bench.rec.data_dir / "models").rglob("*") if path.suffix in (".tmp", ".commit")]
    monkeypatch.undo()
    await bench.clock.advance(100)
    assert (await bench.finish(few_interactions(5))).outcome == "completed"


async def test_a_run_ends_even_if_nothing_can_be_written(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    await bench.trained()
    await bench.clock.advance(100)
    monkeypatch.setattr(files, "replace_durably", full)
    ended = await bench.finish(few_interactions(5))
    assert ended.outcome == "failed"
    assert (await bench.task())["last_error"] == ended.error
    assert not bench.rec._services.trainer.runs
    monkeypatch.undo()
    await bench.clock.advance(100)
    assert (await bench.finish(few_interactions(5))).outcome == "completed"
    assert (await bench.rec.get_model_info("m"))["status"] == "completed"


async def test_a_packed_file_that_is_not_what_was_packed_is_refused(bench: Workbench) -> None:
    await bench.trained()
    await bench.clock.advance(100)
    training = await bench.trainings.next()
    training.tamper = lambda path: path.write_bytes(path.read_bytes()[:-1])
    training.finish(few_interactions(5))
    ended = await bench.ended()
    assert ended.outcome == "failed"
    assert "damaged" in str(ended.error)
    assert (await bench.rec.recommend("u0", model_id="m"))["model_version"] == 1


@pytest.mark.parametrize("content", ['{"algorithm": "nope"}', "{", '["a list"]', '{"algorithm": 5}'])
async def test_a_config_that_cannot_be_used_fails_its_runs_and_is_not_overwritten(
    bench: Workbench, content: str
) -> None:
    path = bench.rec.data_dir / "models" / "m_config.json"
    path.write_text(content)
    await bench.add_task()
    ended = await bench.ended()
    assert ended.outcome == "failed"
    assert ended.error
    assert bench.trainings.started_count == 0
    if content in ("{", '["a list"]'):
        assert path.read_text() == content


async def test_hyperparameters_that_mean_nothing_any_more_are_passed_over(bench: Workbench) -> None:
    path = bench.rec.data_dir / "models" / "m_config.json"
    config = json.loads(path.read_text())
    config["hyperparameters"] |= {"batch_size": 7, "from_long_ago": 1}
    config["notes"] = {"mine": [1, 2.5, "\ud800", None]}
    path.write_text(json.dumps(config))
    await bench.trained()
    job = bench.trainings.trainings[-1].job
    assert job.hyperparameters.keys() >= nmf.default_params.keys()
    assert "from_long_ago" not in job.hyperparameters
    after = json.loads(path.read_text())
    assert (after["notes"], after["created_at"]) == (config["notes"], config["created_at"])
    assert len([one for one in after["training_warnings"] if "ignored" in one]) == 2


@pytest.mark.parametrize("status", ["trained", "", 5, None, ["training"]])
async def test_a_status_that_nobody_knows_keeps_no_server_from_starting(
    data_dir: Path, settings: Settings, status: Any
) -> None:
    (data_dir / "models").mkdir(parents=True)
    (data_dir / "models" / "m_config.json").write_text(json.dumps({"algorithm": "nmf", "status": status}))
    async with AsyncExitStack() as stack:
        bench = await Workbench.open(stack, data_dir, settings)
        assert (await bench.rec.list_models())["m"]["needs_training"] is True
        (data_dir / "rows.csv").write_text("user_id,item_id\nu,i\n")
        await bench.rec.create_data_chef_from_csv("c", file_path="rows.csv")
        await bench.trained()
        assert (await bench.rec.get_model_info("m"))["status"] == "completed"
