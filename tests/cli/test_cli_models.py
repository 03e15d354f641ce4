"""``recserver models``: the list, and export to and import from numpy and safetensors files."""

from __future__ import annotations

import asyncio
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recserver import RecServer, Settings
from recserver._internal.cli.model_formats import import_arrays, read
from recserver._internal.core.errors import InvalidInput
from recserver._internal.recommend.filters import parse_condition
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import Answer, recommend
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import Interaction
from recserver._internal.storage.model_file import load
from tests.helpers.cli_call import Command
from tests.helpers.cli_process import Start
from tests.helpers.film_models import put_films
from tests.helpers.model_files import put_model

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(data_dir: Path) -> Path:
    """A data folder with a trained model and one that was never trained."""
    put_model(data_dir / "models", "m", items=50, version=3)
    (data_dir / "models" / "new_config.json").write_text('{"algorithm": "nmf"}')
    return data_dir


@pytest.fixture
def models(folder: Path, command: Command) -> Command:
    """Runs ``recserver models ARGUMENTS`` beside the data folder."""
    return partial(command, "models")


def plain(**changes: Any) -> dict[str, Any]:
    """Two users and three items, ids not in order; None leaves an array out."""
    arrays = {
        "user_factors": np.array([[1.0, 0.0], [0.0, 1.0]]),
        "item_factors": np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]]),
        "user_ids": np.array(["zoe", "ann"]),
        "item_ids": np.array(["tea", "latte", "scone"]),
        "seen_indptr": np.array([0, 1, 3]),
        "seen_indices": np.array([0, 2, 2]),
    } | changes
    return {name: array for name, array in arrays.items() if array is not None}


def load_recommender(path: Path) -> Recommender:
    with ThreadPoolExecutor(1) as elsewhere:  # where it may block
        return elsewhere.submit(load_model, path).result()[1]


def answers(path: Path) -> Any:
    model = load_recommender(path)
    users = [*model.users, "nobody"]
    return {one: recommend(model, one, Query()) for one in users}


def test_list_shows_every_model(models: Command) -> None:
    status, out, err = models("list")
    assert (status, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines() if "nmf" in line] == ["m", "new"]
    status, out, _ = models("list", "--json")
    assert {name: one["model_file_exists"] for name, one in json.loads(out).items()} == {"m": True, "new": False}


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
async def test_an_imported_export_gives_the_same_answers(models: Command, folder: Path, kind: str) -> None:
    assert (await asyncio.to_thread(models, "export", "m", "--format", kind))[0] == 0
    status, out, err = await asyncio.to_thread(models, "import", f"m.{kind}", "copy")
    assert (status, err, out) == (0, "", "Imported version 1 of model copy into data.\n")
    assert answers(folder / "models/copy.pkl") == answers(folder / "models/m.pkl")
    assert not [one.name for one in folder.parent.rglob(".*.tmp")]
    async with RecServer(folder, Settings(port=0, training_processes=1)) as rec:
        info = await rec.get_model_info("copy")
        assert (info["status"], info["needs_training"], info["model_version"]) == ("completed", False, 1)
        assert info["model_metrics"]["n_items"] == 50
        one, other = [(await rec.recommend("u1", model_id=name))["predictions"] for name in ("m", "copy")]
        assert one == other


def varied_answers(model: Recommender) -> list[Answer]:
    """Answers that need everything that a model file may contain."""
    queries = [
        Query(filters=[parse_condition("genre=Comedy")]),
        Query(interactions=[Interaction("jaws", 5.0)], explain=True),
        Query(fallback="recent"),
    ]
    return [recommend(model, user, query) for user in ("ann", "nobody") for query in queries]


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_data_for_recserver_alone_survives_export_and_import(models: Command, folder: Path, kind: str) -> None:
    """Fold-in, item attributes and recent popularity."""
    put_films(folder / "models")
    for source, copy in (("films", "second"), ("second", "third")):
        assert models("export", source, "--format", kind)[0] == 0
        status, out, err = models("import", f"{source}.{kind}", copy)
        assert (status, err, out) == (0, "", f"Imported version 1 of model {copy} into data.\n")
        before, after = (load_recommender(folder / f"models/{name}.pkl") for name in ("films", copy))
        assert varied_answers(after) == varied_answers(before)


def test_data_for_recserver_alone_is_dropped_if_factors_changed(models: Command, folder: Path) -> None:
    put_films(folder / "models")
    models("export", "films")
    parts = dict(np.load(folder.parent / "films.npz"))
    np.savez(folder.parent / "changed.npz", **parts | {"item_factors": parts["item_factors"] * 2})
    status, out, err = models("import", "changed.npz", "changed")
    assert (status, err) == (0, "") and "so the rest of the file is not imported" in " ".join(out.split())
    model = load_recommender(folder / "models/changed.pkl")
    assert (model.fold_in, model.attributes, model.recent_popularity) == (None, None, None)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"header": 5, "belongs_to": ""}', b'{"header": {}}', b"[" * 100_000]
)
def test_invalid_data_for_recserver_alone_is_refused(models: Command, folder: Path, content: bytes) -> None:
    np.savez(folder.parent / "odd.npz", **plain(recserver=np.frombuffer(content, np.uint8)))
    status, _, err = models("import", "odd.npz", "odd")
    assert status == 1 and "'recserver' was not written by recserver models export" in " ".join(err.split())


@pytest.mark.parametrize(
    "change",
    [
        {"fold_in_gram": np.ones((2, 2))},
        {"fold_in_gram": np.full((3, 3), np.nan)},
        {"attribute_offsets": np.array([5, 1])},
    ],
)
def test_invalid_arrays_for_recserver_alone_are_refused(
    models: Command, folder: Path, change: dict[str, Any]
) -> None:
    put_films(folder / "models")
    models("export", "films")
    parts = dict(np.load(folder.parent / "films.npz"))
    np.savez(folder.parent / "broken.npz", **parts | change)
    status, _, err = models("import", "broken.npz", "broken")
    assert status == 1 and len(err.strip().splitlines()) <= 3 and "Traceback" not in err
    assert not (folder / "models/broken.pkl").exists()


def test_the_three_lines_of_the_docs_read_an_export(models: Command, folder: Path) -> None:
    models("export", "m")
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    lines = (
        page.split("```python\n", 1)[1].split("```", 1)[0].replace("my_model.npz", str(folder.parent / "m.npz"))
    )
    found: dict[str, Any] = {}
    exec(lines, found)
    assert found["items"] == [f"i{number:06d}" for number in range(50)]
    model = load_recommender(folder / "models/m.pkl")
    assert np.array_equal(found["model"]["item_factors"].T, model.item_factors)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_neighbors_survive_export_and_import_in_any_order(models: Command, folder: Path, kind: str) -> None:
    """The file lists items, users and pairs in reverse order."""
    file, backwards = folder.parent / f"m.{kind}", list("cba")
    weights = {"neighbor_indptr": [0, 1, 1, 2], "neighbor_indices": [1, 0], "neighbor_weights": [0.5, 2.0]}
    parts = {
        "user_ids": np.array(["zoe", "ann"]),
        "item_ids": np.array(backwards),
        "user_factors": np.array([[1.0], [2.0]]),
        "item_factors": np.array([[1.0], [1.0], [3.0]]),
        "seen_indptr": np.array([0, 2, 3]),
        "seen_indices": np.array([2, 0, 0]),
        "seen_strengths": np.array([10.0, 1.0, 4.0]),
        **{name: np.array(one) for name, one in weights.items()},
    }
    np.savez(folder.parent / "first.npz", **parts)
    assert models("import", "first.npz", "m", "--overwrite")[0] == 0
    for _ in range(2):
        found = Recommender.from_artifact(load(folder / "models/m.pkl"))
        assert answer(found, "zoe") == {"b": 1 + 0.5, "c": 1 + 2.0 * 10, "a": 3}
        assert answer(found, "ann") == {"b": 2 + 4 * 0.5, "c": 2, "a": 6}
        assert models("export", "m", "--output", file.name, "--format", kind, "--overwrite")[0] == 0
        assert models("import", file.name, "m", "--overwrite")[0] == 0


def answer(model: Recommender, user: str) -> dict[str, float]:
    return dict(recommend(model, user, Query(exclude_seen=False, fallback=None)).items)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"neighbor_indptr": None}, "neighbor_indptr is missing"),
        ({"neighbor_indptr": np.array([0, 1, 2])}, "neighbor_indptr does not match"),
        ({"neighbor_indptr": np.array([0, 2, 1, 2])}, "neighbor_indptr does not match"),
        ({"neighbor_indices": np.array([1, 3])}, "neighbor_indices refer to items that do not exist"),
        ({"neighbor_weights": np.array([1.0])}, "neighbor_weights must be numbers of shape (2,)"),
        ({"neighbor_weights": np.array([1.0, np.nan])}, "neighbor_weights contain NaN"),
        ({"seen_strengths": None}, "seen_strengths is missing"),
        ({"seen_strengths": np.array(["a"])}, "seen_strengths must be numbers of shape (1,)"),
    ],
)
def test_invalid_neighbors_are_refused(
    models: Command, folder: Path, change: dict[str, Any], sentence: str
) -> None:
    parts = {
        "user_ids": np.array(["ann"]),
        "item_ids": np.array(list("abc")),
        "user_factors": np.ones((1, 1)),
        "item_factors": np.ones((3, 1)),
        "seen_indptr": np.array([0, 1]),
        "seen_indices": np.array([0]),
        "seen_strengths": np.array([1.0]),
        "neighbor_indptr": np.array([0, 1, 1, 2]),
        "neighbor_indices": np.array([1, 0]),
        "neighbor_weights": np.array([0.5, 2.0]),
    }
    np.savez(folder.parent / "odd.npz", **{name: one for name, one in (parts | change).items() if one is not None})
    status, _, err = models("import", "odd.npz", "other")
    assert status == 1 and sentence in err


def test_an_import_that_exists_needs_overwrite_and_is_the_next_version(models: Command, folder: Path) -> None:
    np.savez(folder.parent / "plain.npz", **plain())
    before = answers(folder / "models/m.pkl")
    status, _, err = models("import", "plain.npz", "m")
    assert status == 1 and "--overwrite" in err
    assert answers(folder / "models/m.pkl") == before
    assert models("import", "plain.npz", "M", "--overwrite")[0] == 1
    (folder / "models/m_config.json").write_text('{"algorithm": "nmf_fast", "model_version": 3, "mine": 1}')
    assert models("import", "plain.npz", "m", "--overwrite")[0] == 0
    config = json.loads((folder / "models/m_config.json").read_text())
    assert (config["algorithm"], config["model_version"], config["mine"]) == ("nmf_fast", 4, 1)
    found = answers(folder / "models/m.pkl")
    assert found["zoe"].items == [("latte", 2.0), ("scone", 1.0)]
    assert found["ann"].items == [("latte", 2.0), ("tea", 1.0)]
    assert found["nobody"].items[2] == ("latte", 0.0)


@pytest.mark.process
async def test_a_folder_that_a_server_writes_is_left_alone(
    start: Start, models: Command, folder: Path, settings: Settings
) -> None:
    np.savez(folder.parent / "plain.npz", **plain())
    async with RecServer(folder, settings) as rec:
        await rec.recommend("u0", model_id="m")
        process = await start("models", "import", "plain.npz", "m", "--overwrite")
        _, output = await process.communicate()
        err = output.decode()
        assert process.returncode == 1
        assert err.startswith(f"recserver: The data folder data is in use by process {os.getpid()} on host ")
        assert err.endswith(": stop that server, import, and start it again.\n")
        assert (await rec.list_model_versions("m"))["data"] == []
    assert (await asyncio.to_thread(models, "import", "plain.npz", "m", "--overwrite"))[0] == 0
    async with RecServer(folder, settings) as rec:
        assert (await rec.recommend("zoe", model_id="m"))["source"] == "personal"


async def test_a_read_only_server_takes_up_an_import(models: Command, folder: Path, settings: Settings) -> None:
    np.savez(folder.parent / "plain.npz", **plain())
    async with RecServer(folder, settings.model_copy(update={"read_only": True})) as rec:
        await rec.recommend("u0", model_id="m")
        assert (await asyncio.to_thread(models, "import", "plain.npz", "m", "--overwrite"))[0] == 0
        await rec._services.model_cache.refresh()
        assert (await rec.recommend("zoe", model_id="m"))["source"] == "personal"


async def test_an_import_leaves_a_pinned_version_in_its_place(
    models: Command, folder: Path, settings: Settings
) -> None:
    np.savez(folder.parent / "plain.npz", **plain())
    assert (await asyncio.to_thread(models, "import", "plain.npz", "m", "--overwrite"))[0] == 0
    async with RecServer(folder, settings) as rec:
        await rec.pin_model_version("m", model_version=4)
    code, out, _ = await asyncio.to_thread(models, "import", "plain.npz", "m", "--overwrite")
    assert (code, out) == (
        0,
        "Imported version 5 of model m into data, but is not promoted: version 4 is pinned.\n",
    )
    async with RecServer(folder, settings) as rec:
        listed = (await rec.list_model_versions("m"))["data"]
        assert [(one["model_version"], one["promoted"], one["serving"]) for one in listed] == [
            (5, False, False), (4, True, True), (3, True, False),
        ]  # fmt: skip
        assert (await rec.recommend("zoe", model_id="m"))["model_version"] == 4


def test_imports_retain_as_many_versions_as_a_server(models: Command, folder: Path) -> None:
    np.savez(folder.parent / "plain.npz", **plain())
    for _ in range(7):
        assert models("import", "plain.npz", "m", "--overwrite")[0] == 0
    there = {int(path.stem) for path in (folder / "models/.versions/m").glob("*.pkl")}
    assert there == {6, 7, 8, 9, 10}


def test_an_import_that_cannot_be_saved_is_one_sentence(models: Command, folder: Path) -> None:
    np.savez(folder.parent / "plain.npz", **plain())
    (folder / "models/.versions").write_text("in the way")
    code, _, err = models("import", "plain.npz", "x")
    assert code == 1 and "Traceback" not in err
    assert err.startswith("recserver: The model could not be saved (") and ".versions" in err


@pytest.mark.parametrize("status", ["training", "validating"])
def test_a_model_that_is_being_trained_is_left_alone(models: Command, folder: Path, status: str) -> None:
    np.savez(folder.parent / "plain.npz", **plain())
    config = folder / "models/m_config.json"
    config.write_text(json.dumps({"algorithm": "nmf", "status": status}))
    code, _, err = models("import", "plain.npz", "m", "--overwrite")
    assert code == 1 and "being trained" in err
    assert json.loads(config.read_text())["status"] == status


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("export", "none"), 1, "there are: 'm', 'new'"),
        (("export", "../models/m"), 1, "There is no model"),
        (("export", "new"), 1, "never trained"),
        (("export", "m", "--format", "onnx"), 2, "onnx"),
        (("export", "m", "--output", "data"), 1, "exists"),
        (("export", "m", "--output", "nowhere/m.npz"), 1, "cannot be written"),
        (("import", "gone.npz", "x"), 1, "There is no file"),
        (("import", "data/models/m.pkl", "x"), 1, "--format"),
        (("import", "data/models/m.pkl", "x", "--format", "npz"), 1, "is not a valid npz file"),
        (("import", "data/models/m.pkl", "x", "--format", "safetensors"), 1, "is not a valid safetensors file"),
        (("import", "gone.npz", "../x"), 2, "model id"),
        (("import", "gone.npz", "x_config"), 2, "model id"),
        (("list", "--data", "nowhere"), 1, "no folder"),
    ],
)
def test_errors_are_one_sentence(
    models: Command, folder: Path, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    before = sorted(one.name for one in folder.rglob("*"))
    code, out, err = models(*arguments)
    assert (code, out) == (status, "")
    assert sentence in err and "Traceback" not in err
    assert sorted(one.name for one in folder.rglob("*")) == before


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("__import__('os').mkdir('executed')",)


def test_pickles_within_are_never_executed(models: Command, folder: Path) -> None:
    np.savez(folder.parent / "evil.npz", **plain(user_ids=np.array([Evil(), Evil()], object)))
    status, _, err = models("import", "evil.npz", "x")
    assert status == 1 and "allow_pickle=False" in err
    assert not (folder.parent / "executed").exists()
    assert not (folder / "models/x.pkl").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"user_factors": None}, "user_factors is missing"),
        ({"user_ids": None}, "user_text is missing"),
        ({"user_ids": np.array(["a", "a"])}, "twice"),
        ({"user_ids": np.array(["a", ""])}, "1 to 256"),
        ({"user_ids": np.array(["a", "b" * 257])}, "1 to 256"),
        ({"user_ids": np.array([b"a", b"\xff"])}, "cannot be used"),
        ({"user_ids": np.array([["a", "b"]])}, "not a one-dimensional array"),
        ({"user_ids": np.array([0.5, 1.5])}, "not a one-dimensional array"),
        ({"user_ids": np.array(["a", "b", "c"])}, "shape (3, k)"),
        (
            {"user_ids": None, "user_text": np.zeros(2, np.uint8), "user_offsets": np.array([0, 1, 3])},
            "do not match",
        ),
        ({"user_ids": None, "user_text": np.zeros(2, np.int8), "user_offsets": np.array([0, 1, 2])}, "of bytes"),
        ({"user_factors": np.ones((2, 3))}, "3 factors"),
        ({"user_factors": np.ones((2, 0)), "item_factors": np.ones((3, 0))}, "shape (2, k)"),
        ({"user_factors": np.ones(2)}, "shape (2, k)"),
        ({"user_factors": np.array([["a", "b"]] * 2)}, "must be numbers"),
        ({"user_factors": np.array([[1, np.nan]] * 2)}, "NaN"),
        ({"item_factors": np.full((3, 2), 1e300)}, "infinity"),
        ({"seen_indptr": None}, "seen_indptr is missing"),
        ({"seen_indptr": np.array([0, 2, 1])}, "does not match"),
        ({"seen_indptr": np.array([0, 3])}, "does not match"),
        ({"seen_indices": np.array([0, 2, 3])}, "do not exist"),
        ({"seen_indices": np.array([0, 2, -1])}, "do not exist"),
        ({"seen_indices": np.array([0.0, 1.0, 2.0])}, "integers"),
        ({"item_counts": np.array([1, 2])}, "one count"),
        ({"item_counts": np.array([1, 2, -3])}, "one count"),
    ],
)
def test_invalid_arrays_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        import_arrays(plain(**change))
    assert sentence in str(caught.value)


def test_optional_arrays_may_be_missing() -> None:
    parts = import_arrays(plain(seen_indptr=None, seen_indices=None))
    assert parts["item_counts"].tolist() == [0, 0, 0] and parts["seen_indptr"].tolist() == [0, 0, 0]
    assert import_arrays(plain())["item_counts"].tolist() == [0, 1, 1]  # latte, scone, tea: each pair once
    assert import_arrays(plain(item_counts=np.array([7, 8, 9])))["item_counts"].tolist() == [8, 9, 7]
    assert bytes(import_arrays(plain(user_ids=np.array([10, 9])))["user_text"]) == b"109"


def test_an_archive_that_would_be_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, user_factors=np.zeros(10**6))
    assert path.stat().st_size < 10**5
    monkeypatch.setattr("recserver._internal.cli.model_formats.MAX_FILE_BYTES", 10**6)
    with pytest.raises(InvalidInput, match="more than"):
        read(path, "npz")


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_damaged_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"m.{kind}"
    if kind == "npz":
        np.savez(path, **plain())
    else:
        from safetensors.numpy import save_file

        save_file({name: one for name, one in plain().items() if one.dtype.kind != "U"}, path)
    genuine = path.read_bytes()
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    for content in (b"", b"garbage", stream.getvalue(), *(genuine[: len(genuine) * n // 20] for n in range(20))):
        path.write_bytes(content)
        with pytest.raises(InvalidInput):
            read(path, kind)
