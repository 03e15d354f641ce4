"""Model and task files: hand-written, legacy, broken, rewritten; nothing of anybody's is lost."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from recserver._internal.core.errors import InvalidInput, ModelNotFound
from recserver._internal.registry.model_config import highest_version
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.model_store import ModelStore
from recserver._internal.storage import atomic_files as files
from recserver._internal.training.task import TaskSpec
from recserver._internal.training.task_store import TaskStore


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path)


@pytest.fixture
def tasks(tmp_path: Path) -> TaskStore:
    return TaskStore(tmp_path)


def put(folder: Path, name: str, content: object) -> Path:
    """A file as somebody else wrote it."""
    path = folder / name
    path.write_text(json.dumps(content))
    return path


async def test_a_hand_written_config_may_lack_everything(models: ModelStore) -> None:
    path = put(models.folder, "m_config.json", {})
    os.utime(path, (1_767_225_600, 1_767_225_600))
    assert (await models.read("m")).config == {
        "model_id": "m",
        "model_name": "m",
        "message": "",
        "algorithm": "unknown",
        "model_type": "unknown",
        "hyperparameters": {},
        "created_at": "2026-01-01T00:00:00.000Z",
        "status": "initializing",
        "model_path": "models/m.pkl",
    }
    assert json.loads(path.read_text()) == {}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"algorithm": "nmf_fast", "type": "nmf"}, {"algorithm": "nmf_fast", "model_type": "nmf"}),
        ({"algorithm": "nmf_fast"}, {"algorithm": "nmf_fast", "model_type": "nmf_fast"}),
        ({"model_id": "another", "model_path": "/etc/passwd"}, {"model_id": "m", "model_path": "models/m.pkl"}),
        ({"created_at": "2024-01-02 03:04:05"}, {"created_at": "2024-01-02 03:04:05"}),
        (
            {"status": 5, "hyperparameters": [1], "message": None},
            {"status": "initializing", "hyperparameters": {}},
        ),
        ({"mine": {"a": 1}, "status": "completed"}, {"mine": {"a": 1}, "status": "completed"}),
    ],
)
async def test_what_a_config_says_is_taken_as_far_as_it_goes(
    models: ModelStore, written: dict[str, Any], read: dict[str, Any]
) -> None:
    put(models.folder, "m_config.json", written)
    config = (await models.read("m")).config
    assert {key: config[key] for key in read} == read


async def test_a_rewrite_changes_only_what_it_says(models: ModelStore) -> None:
    written = {"zeta": [1, {"b": None}], "algorithm": "nmf", "created_at": "x", "error": "old", "ü": "é"}
    path = put(models.folder, "m_config.json", written)
    await models.update_config("m", ModelStatus.TRAINING, drop=("error", "failed_at"), stage=1)
    del written["error"]
    assert json.loads(path.read_text()) == written | {"status": "training", "stage": 1}


async def test_a_rewrite_keeps_the_time_of_a_file_that_names_no_time(models: ModelStore) -> None:
    path = put(models.folder, "m_config.json", {"algorithm": "nmf"})
    os.utime(path, (1_767_225_600, 1_767_225_600))
    await models.update_config("m", ModelStatus.TRAINING)
    assert (await models.read("m")).config["created_at"] == "2026-01-01T00:00:00.000Z"


async def test_a_legacy_config_is_read_and_rewritten_under_its_new_name(models: ModelStore) -> None:
    legacy = put(models.folder, "m.json", {"algorithm": "nmf", "status": "completed", "created_at": "x"})
    assert await models.ids() == ["m"]
    assert (await models.read("m")).config["created_at"] == "x"
    assert list(models.folder.iterdir()) == [legacy]
    await models.update_config("m", ModelStatus.TRAINING)
    after = json.loads((models.folder / "m_config.json").read_text())
    assert after == {"algorithm": "nmf", "status": "training", "created_at": "x"}
    assert json.loads(legacy.read_text())["status"] == "completed"
    assert (await models.read("m")).status == "training"
    folder = models.folder.name
    assert await models.delete("m") == [f"{folder}/m_config.json", f"{folder}/m.json"]
    assert not list(models.folder.iterdir())
    with pytest.raises(ModelNotFound):
        await models.read("m")


async def test_only_configs_are_models(models: ModelStore) -> None:
    for name in ("a_config.json", "a_metadata.json", "b.json", "c_METADATA.json", "D_Config.json", "_config.json"):
        put(models.folder, name, {})
    for name in ("e.pkl", "f.json.bak", ".g_config.json", "h_config.json~"):
        (models.folder / name).write_text("")
    assert await models.ids() == ["a", "b"]


@pytest.mark.parametrize("kind", ["text", "list", "folder", "fifo", "huge", "deep", "nan"])
async def test_an_unreadable_config_is_listed_as_failed_and_not_changed(models: ModelStore, kind: str) -> None:
    path = models.folder / "m_config.json"
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case _:
            texts = {"text": "{", "list": "[]", "huge": " " * (2**20 + 1), "deep": "[" * 9999, "nan": '{"a": NaN}'}
            path.write_text(texts[kind])
    async with asyncio.timeout(20):
        model = await models.read("m")
    assert model.unreadable_reason
    assert (model.status, model.config["error"], model.config["algorithm"]) == (
        "failed",
        model.unreadable_reason,
        "unknown",
    )
    with pytest.raises(ModelNotFound):
        await models.update_config("m", ModelStatus.TRAINING)
    assert list(models.folder.iterdir()) == [path]


async def test_a_pickle_that_is_no_regular_file_does_not_count(models: ModelStore) -> None:
    put(models.folder, "m_config.json", {})
    os.mkfifo(models.folder / "m.pkl")
    assert (await models.read("m")).file_stat is None


async def test_an_unknown_or_vanished_model_is_not_found(models: ModelStore) -> None:
    (models.folder / "n_config.json").symlink_to("nowhere")
    for model_id in ("m", "../m", "", "n"):
        with pytest.raises(ModelNotFound):
            await models.read(model_id)


async def test_concurrent_changes_of_one_config_are_all_stored(models: ModelStore) -> None:
    path = put(models.folder, "m_config.json", {"status": "completed", "created_at": "then"})
    await asyncio.gather(*(models.update_config("m", ModelStatus.MODIFIED, **{f"k{n}": n}) for n in range(40)))
    assert json.loads(path.read_text()) == {"status": "modified", "created_at": "then"} | {
        f"k{n}": n for n in range(40)
    }


@pytest.mark.parametrize(
    ("config", "metadata", "last"),
    [({}, {}, 0), ({"model_version": 3}, {"model_version": 2}, 3), ({}, {"model_version": 4}, 4),
     ({"model_version": "9"}, {"model_version": -2}, 0), ({"model_version": None}, {"model_version": [1]}, 0)],
)  # fmt: skip
def test_the_highest_version_is_found_in_all_files(
    config: dict[str, Any], metadata: dict[str, Any], last: int
) -> None:
    assert highest_version(config, metadata) == last


def spec(**changes: Any) -> TaskSpec:
    fields = {"task_name": "t", "model_id": "m", "interactions_data_chef_id": "c", "interval": 60}
    return TaskSpec(**fields | changes)


async def test_a_task_file_holds_exactly_its_six_keys(tasks: TaskStore) -> None:
    await tasks.write(spec(), keep_unknown_keys=False)
    assert json.loads((tasks.folder / "t.json").read_text()) == {
        "task_name": "t",
        "model_id": "m",
        "interactions_data_chef_id": "c",
        "user_features_data_chef_id": None,
        "item_features_data_chef_id": None,
        "interval": 60,
    }


async def test_unknown_keys_of_a_task_survive_an_edit(tasks: TaskStore) -> None:
    path = put(
        tasks.folder, "t.json", {"note": "mine", "interval": 5, "model_id": "m", "interactions_data_chef_id": "c"}
    )
    await tasks.write(spec(interval=7.5), keep_unknown_keys=True)
    after = json.loads(path.read_text())
    assert (after["note"], after["interval"]) == ("mine", 7.5)


async def test_the_files_name_is_the_tasks_name(tasks: TaskStore) -> None:
    put(
        tasks.folder,
        "t.json",
        {"task_name": "x", "interval": 5, "model_id": "m", "interactions_data_chef_id": "c"},
    )
    read = await tasks.spec("t")
    assert isinstance(read, TaskSpec)
    assert (read.task_name, await tasks.names()) == ("t", ["t"])


@pytest.mark.parametrize(
    "wrong",
    [{"interval": one} for one in (0, 0.999, -5, True, "60", None, [60], 31_622_401, 1e308)]
    + [{"model_id": one} for one in (None, "", 5, ["m"])]
    + [{"interactions_data_chef_id": None}],
    ids=str,
)
async def test_a_task_file_that_lacks_what_it_needs_says_what(tasks: TaskStore, wrong: dict[str, Any]) -> None:
    put(tasks.folder, "t.json", {"interval": 5, "model_id": "m", "interactions_data_chef_id": "c"} | wrong)
    fault = await tasks.spec("t")
    assert isinstance(fault, InvalidInput)
    assert f"tasks/t.json cannot be scheduled: {next(iter(wrong))}" in str(fault)


@pytest.mark.parametrize("ahead", ["another process publishes", "another process deletes"])
async def test_a_model_is_read_as_it_is_at_one_moment(
    models: ModelStore, monkeypatch: pytest.MonkeyPatch, ahead: str
) -> None:
    """What another process does between the reading of the config and the look at the packed model."""
    config = put(models.folder, "m_config.json", {"algorithm": "nmf", "status": "validating"})
    look, changed = files.regular_file_stat, False

    def changing(path: Path) -> os.stat_result | None:
        nonlocal changed
        if path.suffix == ".pkl" and looks() == 2 and not changed:
            changed = True
            if "deletes" in ahead:
                config.unlink()
            else:
                models.model_path("m").write_bytes(b"packed")
                files.write_atomic(config, b'{"algorithm": "nmf", "status": "completed"}')
        return look(path)

    count = 0

    def looks() -> int:
        nonlocal count
        count += 1
        return count

    monkeypatch.setattr(files, "regular_file_stat", changing)
    if "deletes" in ahead:
        with pytest.raises(ModelNotFound):
            await models.read("m")
    else:
        model = await models.read("m")
        assert (model.status, model.file_stat is not None) == ("completed", True)
    assert changed
