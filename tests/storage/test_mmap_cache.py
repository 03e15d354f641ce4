"""Large model files: mapped, shared and checked once, and never the file that others may write over."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from recserver._internal.core.errors import UnreadableModel
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.pipeline import recommend
from recserver._internal.recommend.query import Query
from recserver._internal.storage import model_file as artifact
from recserver._internal.storage.model_file import mmap_cache as snapshots
from tests.helpers.model_files import write_model

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="files are mapped on Linux only"),
]

LARGE = 40_000
"""Items of a model file that is worth a snapshot."""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory of the test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = write_model(tmp_path / "m.pkl", items=LARGE, k=16)
    assert path.stat().st_size > snapshots.MIN_BYTES
    return path


def kept(temporary: Path) -> list[Path]:
    """Every file below the temporary directory."""
    return [one for one in temporary.rglob("*") if one.is_file()]


def is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def asked(model: Recommender) -> Any:
    return [recommend(model, user, Query()).items for user in ("u0", "u1", "nobody")]


def test_a_large_file_is_copied_once_and_mapped_by_all(large: Path, temporary: Path) -> None:
    first, one = load_model(large)
    (snapshot,) = kept(temporary)
    assert is_mapped(snapshot) and not is_mapped(large)
    assert snapshot.stat().st_mode & 0o777 == 0o600 and snapshot.parent.stat().st_mode & 0o777 == 0o700
    second, other = load_model(large)
    assert (first.verified, second.verified) == (False, True)
    assert (first.sha256, first.size, first.header) == (second.sha256, second.size, second.header)
    assert asked(one) == asked(other) == asked(Recommender.from_artifact(artifact.load(large)))
    assert kept(temporary) == [snapshot]
    with pytest.raises(ValueError, match="WRITEABLE"):
        other.item_factors.flags.writeable = True


def test_a_small_file_is_read(tmp_path: Path, temporary: Path) -> None:
    load_model(write_model(tmp_path / "m.pkl"))
    assert kept(temporary) == []


def test_another_process_maps_what_this_one_checked(large: Path, temporary: Path) -> None:
    _, model = load_model(large)
    code = (
        "import sys; from pathlib import Path\n"
        "from recserver._internal.recommend.model.loading import load_model\n"
        "from recserver._internal.recommend.pipeline import recommend, Query\n"
        "packed, model = load_model(Path(sys.argv[1]))\n"
        "print(packed.verified, recommend(model, 'u0', Query(n=3)).items)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(large)], env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    expected = recommend(model, "u0", Query(n=3)).items
    assert done.stdout.strip() == f"True {expected}"


def test_many_processes_at_once_share_one_copy(large: Path, temporary: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from recserver._internal.recommend.model.loading import load_model\n"
        "from recserver._internal.recommend.pipeline import recommend, Query\n"
        "input(); packed, model = load_model(Path(sys.argv[1])); print(flush=True)\n"
        "maps = Path('/proc/self/maps').read_text().splitlines()\n"
        "print({line.split(maxsplit=5)[5] for line in maps if sys.argv[2] in line}, flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(large), str(temporary)]
    how: Any = {"env": {**os.environ, "TMPDIR": str(temporary)}, "text": True}
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **how) for _ in range(4)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    mapped = [process.stdout.readline() + process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate("\n")
    (snapshot,) = kept(temporary)
    assert {one.strip() for one in mapped} == {str({str(snapshot)})}


def test_a_model_file_that_stays_locked_is_read(
    large: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MAX_LOCK_ATTEMPTS", 3)
    with large.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        packed, model = load_model(large)
    assert not packed.verified and asked(model)
    assert kept(temporary) == []


@pytest.mark.parametrize("written", [b"", b"garbage", b"\xff" * 3_000_000])
def test_a_file_written_over_in_place_changes_no_answer(large: Path, written: bytes) -> None:
    _, first = load_model(large)
    _, second = load_model(large)
    before = asked(first)
    with large.open("r+b") as same:
        same.truncate(len(written))
        same.write(written)
    assert asked(first) == asked(second) == before
    with pytest.raises(UnreadableModel):
        load_model(large)


def test_a_damaged_file_keeps_no_snapshot(large: Path, temporary: Path) -> None:
    content = bytearray(large.read_bytes())
    content[len(content) // 2] ^= 1
    large.write_bytes(content)
    with pytest.raises(UnreadableModel, match="checksum"):
        load_model(large)
    assert kept(temporary) == []


def test_parts_that_do_not_fit_keep_no_snapshot(large: Path, temporary: Path) -> None:
    found = artifact.load(large)
    large.unlink()
    artifact.pack(large, found.header, {**found.arrays, "item_counts": found.arrays["item_counts"][1:]})
    for _ in range(2):
        with pytest.raises(UnreadableModel, match="are inconsistent"):
            load_model(large)
    assert kept(temporary) == []


def test_what_changes_while_it_is_copied_keeps_no_snapshot(
    large: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sendfile = os.sendfile

    def touching(*arguments: Any) -> int:
        os.utime(large)
        return sendfile(*arguments)

    monkeypatch.setattr(os, "sendfile", touching)
    packed, model = load_model(large)
    assert not packed.verified and asked(model)
    assert kept(temporary) == []


def test_unused_copies_are_removed_when_another_is_made(large: Path, tmp_path: Path, temporary: Path) -> None:
    model = load_model(large)[1]
    (held,) = kept(temporary)
    (held.parent / ".litter").write_bytes(b"of a process that was killed")
    other = load_model(write_model(tmp_path / "other.pkl", items=LARGE, k=16))
    assert held in kept(temporary) and len(kept(temporary)) == 2
    del model
    del other
    load_model(write_model(tmp_path / "third.pkl", items=LARGE, k=16))
    assert held not in kept(temporary) and len(kept(temporary)) == 1


@pytest.mark.parametrize("fault", ["mode", "symlink", "full", "file", "unwritable"])
def test_where_there_is_no_private_folder_files_are_read(
    large: Path, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    load_model(large)
    folder = kept(temporary)[0].parent
    kept(temporary)[0].unlink()
    if fault == "mode":
        folder.chmod(0o750)
    elif fault in ("symlink", "file"):
        folder.rmdir()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        folder.symlink_to(elsewhere) if fault == "symlink" else folder.touch()
    else:
        error = OSError(errno.ENOSPC if fault == "full" else errno.EACCES, "no")

        def fails(*_: Any, **__: Any) -> Any:
            raise error

        monkeypatch.setattr(*((os, "sendfile") if fault == "full" else (tempfile, "mkstemp")), fails)
    packed, model = load_model(large)
    assert not packed.verified and asked(model)
    assert [one for one in tmp_path.rglob("*-*-*") if one.is_file() and one.stat().st_size] == []
    assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if str(temporary) in line]


def test_no_more_files_are_mapped_than_descriptors_allow(
    large: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MAX_MAPPED", 0)
    packed, _ = load_model(large)
    assert not packed.verified and kept(temporary) == []


def test_a_snapshot_that_was_cut_short_is_not_used(large: Path, temporary: Path) -> None:
    load_model(large)
    (snapshot,) = kept(temporary)
    os.truncate(snapshot, 100)
    packed, model = load_model(large)
    assert not packed.verified and asked(model)
