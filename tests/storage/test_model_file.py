"""The model file: round trips, and everything hostile, foreign or damaged that must be refused unexecuted."""

from __future__ import annotations

import builtins
import errno
import gc
import hashlib
import io
import json
import os
import pickle
import pickletools
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from recserver._internal.core.errors import UnreadableModel
from recserver._internal.storage import model_file as artifact
from recserver._internal.storage.model_file import Artifact, PackedFile, load, pack
from recserver._internal.storage.model_file.id_table import IdIndex, pack_ids

IDS = sorted(["a", "ab", "a\x00", "b", "é", "日本", "😀", "\uffff", "z" * 300], key=str.encode)

BAD_PICKLES = [
    b"cos\ngetenv\n(S'HOME'\ntR.",
    b"(S'HOME'\nios\ngetenv\n.",
    b"(cos\ngetenv\nS'HOME'\no.",
    b"\x80\x04\x8c\x02os\x8c\x06getenv\x93\x8c\x04HOME\x85R.",
    b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x031+1\x85R.",
    b"\x80\x04\x8c\x1cnumpy.testing._private.utils\x8c\x09os.getenv\x93\x8c\x04HOME\x85R.",
    b"\x80\x04\x8c\x15numpy.lib._npyio_impl\x8c\x09os.getenv\x93\x8c\x04HOME\x85R.",
    b"\x80\x02cbuiltins\nobject\n)\x81.",
    b"\x82\x01.",
    b"Pabc\n.",
    b"U\x03abcQ.",
    b"\x80\x05\x97.",
    b"\x80\x04}.cos\ngetenv\n(S'HOME'\ntR.",
    b"\x80\x02]q\x00h\x00a.",
    b"\x80\x05\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",
    b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x.",
    b"\x80\x02Nr\xff\xff\xff\xff.",
    b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + b"N.",
    b"\x80\x02" + b"]" * 2000 + b"a" * 1999 + b".",
    b"",
    b"\x80",
    b"\x80cN.",
    b"{}",
]
CALLING = BAD_PICKLES[:7]  # those that a plain pickle.loads executes
BAD_ARRAYS: list[tuple[Any, Any]] = [
    ("|O", (1,)),
    ("<f4", (-1, 4)),
    ("<f4", (2**32, 2**32)),
    ("<f4", (3,)),
    ("<f4", "x"),
    ("<c8", (1,)),
    ("V8", (1,)),
    ("<f4,<f4", (1,)),
    (None, (1,)),
]
MORE_BAD_ARRAYS: list[tuple[Any, Any]] = [
    ("<f4", (-1, -2)),
    ("<f4", (2, 2**64)),
    ("<f4", (0, 2**70)),
    ("<f4", (2.0,)),
    ("|u1", (True, 8)),
    ("<f4", ("2",)),
    ("<f4", ((2,),)),
    ("<f4", None),
    ("<f4", {"0": 2}),
    ("<f4", (2,) + (1,) * 70),
    ("<f4", ()),
    (">f4", (2,)),
    ("f4", (2,)),
    ("float32", (2,)),
    ("<M8[s]", (1,)),
    ("<U2", (1,)),
    ("|S8", (1,)),
    ("|b1", (8,)),
    (["<f4"], (2,)),
    (4, (2,)),
]


def text(content: bytes) -> bytes:
    return b"X" + len(content).to_bytes(4, "little") + content


def blob(content: bytes) -> bytes:
    return b"\x8e" + len(content).to_bytes(8, "little") + content


def forge(
    *entries: tuple[bytes, bytes, bytes], header: bytes = b'{"a":1}', version: int = 1, tail: bytes = b"u."
) -> bytes:
    """A file with a right checksum around any content: what an attacker who read the source would make."""
    body = b"\x80\x05}(" + text(b"format") + text(b"recserver-model")
    body += text(b"version") + b"M" + version.to_bytes(2, "little") + text(b"header") + text(header)
    body += text(b"arrays") + b"}("
    for name, spec, payload in entries:
        body += text(name) + text(spec)
        body += blob(bytes(-(len(body) + 18) % 64)) + blob(payload) + b"\x87"
    body += b"u" + text(b"sha256") + b"X\x40\0\0\0"
    return body + hashlib.sha256(body).hexdigest().encode() + tail


def spec_of(dtype: Any, shape: Any) -> bytes:
    return json.dumps([dtype, shape], separators=(",", ":")).encode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.pkl"


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every call that the bad pickles aim at."""
    calls: list[str] = []

    def recorder(name: str) -> Callable[..., None]:
        return lambda *_args: calls.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "getenv", recorder("getenv"))
        patch.setattr(builtins, "eval", recorder("eval"))
        yield calls


def sample() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    ids, offsets = pack_ids(IDS)
    return {"model_id": "m", "hyperparameters": {"n": 3, "x": 0.1, "none": None}, "name": "日本"}, {
        "users": rng.random((7, 3)),
        "items": rng.random((5, 3), dtype=np.float32),
        "ids": ids,
        "offsets": offsets,
        "empty": np.empty((0, 3), np.float32),
        "scalar": np.array(7, np.int32),
    }


def refused(path: Path, content: bytes | None = None, **options: Any) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableModel) as caught:
        load(path, **options)
    assert path.name in str(caught.value)
    return str(caught.value)


class Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


# Round trips and form


def test_round_trip(file: Path) -> None:
    header, arrays = sample()
    packed = pack(file, header, arrays)
    content = file.read_bytes()
    assert packed == PackedFile(len(content), hashlib.sha256(content).hexdigest())
    found = load(file)
    assert isinstance(found, Artifact)
    assert (found.size, found.sha256, found.header) == (packed.size, packed.sha256, header)
    assert list(found.arrays) == list(arrays)
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        np.testing.assert_array_equal(found.arrays[name], array)
    assert list(IdIndex(found.arrays["ids"], found.arrays["offsets"])) == IDS


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i4", "<i8", "<u4", "<u8", "|u1", ">f4", ">i8"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (4, 0), (5,), (3, 4), (2, 3, 4)])
def test_round_trip_of_every_kind(file: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    pack(file, {}, {"a": array})
    found = load(file).arrays["a"]
    assert found.shape == shape
    assert found.dtype == array.dtype.newbyteorder("<")
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("view", [lambda a: a.T, lambda a: a[::2, ::-1], np.asfortranarray])
def test_strided_arrays_are_stored_in_order(file: Path, view: Callable[[np.ndarray], np.ndarray]) -> None:
    array = view(np.arange(24.0).reshape(4, 6))
    pack(file, {}, {"a": array})
    np.testing.assert_array_equal(load(file).arrays["a"], array)


def test_a_file_without_arrays(file: Path) -> None:
    pack(file, {}, {})
    assert load(file).arrays == {}
    assert Restricted(io.BytesIO(file.read_bytes())).load()["arrays"] == {}


def test_same_content_gives_same_bytes_and_the_documented_form(tmp_path: Path) -> None:
    array = np.array([1.0, 2.0], np.float32)
    one, other = (pack(tmp_path / name, {"a": 1}, {"x": array}) for name in ("one", "other"))
    assert one == other
    assert (tmp_path / "one").read_bytes() == forge((b"x", b'["<f4",[2]]', array.tobytes()))


def test_a_restricted_unpickler_reads_plain_data(file: Path) -> None:
    header, arrays = sample()
    pack(file, header, arrays)
    stream = io.BytesIO(file.read_bytes())
    data = Restricted(stream).load()
    assert stream.read() == b""
    assert list(data) == ["format", "version", "header", "arrays", "sha256"]
    assert (data["format"], data["version"], json.loads(data["header"])) == ("recserver-model", 1, header)
    for name, array in arrays.items():
        spec, padding, payload = data["arrays"][name]
        assert json.loads(spec) == [array.dtype.str, list(array.shape)]
        assert not any(padding)
        assert payload == array.tobytes()


def test_opcodes_are_plain_and_payloads_aligned(file: Path) -> None:
    _, arrays = sample()
    pack(file, {"a": 1}, arrays)
    content = file.read_bytes()
    opcodes = list(pickletools.genops(content))
    assert opcodes[0][:2] == (pickletools.code2op["\x80"], 5)
    assert (opcodes[-1][0].name, opcodes[-1][2]) == ("STOP", len(content) - 1)
    assert {opcode.name for opcode, _, _ in opcodes} == {
        *("PROTO", "EMPTY_DICT", "MARK", "BINUNICODE", "BININT2"),
        *("BINBYTES8", "TUPLE3", "SETITEMS", "STOP"),
    }
    starts = [at + 9 for opcode, _, at in opcodes if opcode.name == "BINBYTES8"][1::2]
    assert len(starts) == len(arrays)
    assert all(start % 64 == 0 for start in starts)


def test_arrays_are_aligned_and_read_only(file: Path) -> None:
    pack(file, *sample())
    for array in load(file).arrays.values():
        assert type(array) is np.ndarray
        assert array.size == 0 or array.ctypes.data % 64 == 0
        assert array.flags.aligned
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_arrays_outlive_the_file(file: Path) -> None:
    pack(file, {}, {"a": np.arange(10)})
    found = load(file).arrays["a"]
    file.unlink()
    assert found.sum() == 45


@pytest.mark.parametrize("written", [b"", b"garbage", b"\xff" * 100_000])
def test_a_file_written_over_in_place_changes_nothing_that_was_loaded(file: Path, written: bytes) -> None:
    array = np.arange(10_000)
    pack(file, {}, {"a": array})
    found = load(file).arrays["a"]
    with file.open("r+b") as same:
        same.truncate(len(written))
        same.write(written)
    assert np.array_equal(found, array)


def test_loading_and_writing_hold_one_copy_at_most(file: Path) -> None:
    array = np.ones((1_000_000, 4), np.float32)
    tracemalloc.start()
    try:
        pack(file, {}, {"a": array})
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
        load(file)
        assert tracemalloc.get_traced_memory()[1] < array.nbytes + 2 * 2**20
    finally:
        tracemalloc.stop()


def test_nothing_heavy_is_imported_and_nothing_unpickles() -> None:
    assert not {"pickle", "joblib", "eval", "exec"} & set(vars(artifact))
    heavy = "{'sklearn', 'pandas', 'scipy', 'joblib'}"
    check = f"import recserver._internal.storage.model_file, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# What pack() does not write


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.0, np.nan]),
        np.array([np.inf], np.float32),
        np.array([-np.inf]),
        np.array(["a"]),
        np.array([{}], object),
        np.zeros(2, "<f4,<f4"),
        np.zeros(2, complex),
        np.zeros(2, "M8[s]"),
        np.zeros(2, bool),
        np.zeros((1,) * 9),
    ],
)
def test_pack_refuses_what_load_would_refuse(file: Path, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="array 'a'"):
        pack(file, {}, {"a": array})
    assert not file.exists()


@pytest.mark.parametrize("header", [{"a": float("nan")}, {"a": "\ud800"}, {"a": object()}, {"a": "x" * 2**24}])
def test_pack_refuses_headers_that_are_not_json(file: Path, header: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        pack(file, header, {})
    assert not file.exists()


@pytest.mark.parametrize("names", [[""], ["a" * 1025], ["\ud800"], [str(n) for n in range(65)]])
def test_pack_refuses_bad_names_and_too_many(file: Path, names: list[str]) -> None:
    with pytest.raises(ValueError):
        pack(file, {}, {name: np.zeros(1) for name in names})
    assert not file.exists()


def test_pack_leaves_nothing_behind_when_the_disk_fails(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        pack(file, *sample())
    assert not file.exists()


def test_pack_never_touches_a_file_that_is_there(file: Path) -> None:
    file.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        pack(file, *sample())
    assert file.read_bytes() == b"precious"


# Hostile and foreign files


@pytest.mark.parametrize("content", CALLING)
def test_the_canary_sings_when_a_bad_pickle_is_executed(content: bytes, canary: list[str]) -> None:
    pickle.loads(content)
    assert canary


@pytest.mark.parametrize("content", BAD_PICKLES)
def test_bad_pickles_are_refused_unexecuted(file: Path, content: bytes, canary: list[str]) -> None:
    assert "train the model again" in refused(file, content)
    # The same behind a genuine opening, in place of what follows it, and after a genuine file.
    genuine = forge((b"x", b'["<f4",[2]]', bytes(8)))
    for at in (len(b"\x80\x05}("), genuine.index(b"M\x01\x00") + 3, genuine.index(b"\x8e"), len(genuine) - 2):
        refused(file, genuine[:at] + content)
    if content:
        refused(file, genuine + content)
        refused(file, forge(tail=b"u" + content))
    assert canary == []


class Reduces:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.getenv, ("HOME",)


@pytest.mark.parametrize("content", [{"model": np.arange(5.0)}, {"model": {"a": 1}}, Reduces()])
def test_old_pickles_are_refused_unexecuted(file: Path, content: Any) -> None:
    joblib.dump(content, file)
    refused(file)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        refused(file, pickle.dumps(content, protocol))


@pytest.mark.parametrize(("dtype", "shape"), BAD_ARRAYS + MORE_BAD_ARRAYS)
def test_bad_arrays_are_refused(file: Path, dtype: Any, shape: Any) -> None:
    refused(file, forge((b"a", spec_of(dtype, shape), bytes(8))))


@pytest.mark.parametrize("shape", [(0, 2**62), (2**63, 0), (0, 2**70)])
def test_empty_arrays_of_impossible_shape_are_refused(file: Path, shape: tuple[int, ...]) -> None:
    refused(file, forge((b"a", spec_of("<f4", shape), b"")))


@pytest.mark.parametrize(
    "spec",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'"<f4"',
        b'["<f4"]',
        b'["<f4",[2],0]',
        b'["<f4", [2]]',
        b'["<f4",[2]',
        b"\xff",
    ],
)
def test_bad_descriptions_are_refused(file: Path, spec: bytes) -> None:
    refused(file, forge((b"a", spec, bytes(8))))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":1,"a":2}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xff"}',
        b'{"a": 1}',
        b"{}{}",
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)
def test_bad_headers_are_refused(file: Path, header: bytes) -> None:
    refused(file, forge(header=header))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_numbers_that_are_not_finite_are_refused(file: Path, value: float, dtype: str) -> None:
    array = np.zeros(600_000, dtype)
    array[-1] = value
    assert "NaN" in refused(file, forge((b"a", spec_of(dtype, array.shape), array.tobytes())))


def test_doubled_long_and_too_many_names_are_refused(file: Path) -> None:
    entry = (b"a", b'["|u1",[1]]', b"x")
    file.write_bytes(forge(entry))
    load(file)
    refused(file, forge(entry, entry))
    refused(file, forge((b"\xff", *entry[1:])))
    refused(file, forge((b"a" * 1025, *entry[1:])))
    refused(file, forge(*((f"{n}".encode(), *entry[1:]) for n in range(65))))


def test_a_payload_longer_than_the_file_is_refused(file: Path) -> None:
    genuine = forge((b"a", b'["|u1",[64]]', bytes(64)))
    at = genuine.rindex(b"\x8e") + 1
    for length in (65, 2**31, 2**40, 2**63, 2**64 - 1):
        refused(file, genuine[:at] + length.to_bytes(8, "little") + genuine[at + 8 :])


def test_other_formats(file: Path) -> None:
    for version in (2, 65535):
        assert "newer recserver" in refused(file, forge(version=version))
    assert "newer" not in refused(file, forge(version=0))


# Damage


@pytest.fixture
def genuine(tmp_path: Path) -> bytes:
    path = tmp_path / "genuine"
    pack(path, *sample())
    return path.read_bytes()


def test_truncated_anywhere(file: Path, genuine: bytes) -> None:
    for length in range(len(genuine)):
        refused(file, genuine[:length])
    for extra in (b"\0", b".", b"N.", genuine):
        refused(file, genuine + extra)


def test_any_flipped_bit(file: Path, genuine: bytes) -> None:
    everywhere = random.Random(29).sample(range(8 * len(genuine)), 1000)
    for bit in [*range(8 * 200), *everywhere, *range(8 * (len(genuine) - 100), 8 * len(genuine))]:
        damaged = bytearray(genuine)
        damaged[bit // 8] ^= 1 << bit % 8
        refused(file, bytes(damaged))
    file.write_bytes(genuine)
    load(file)


# What stands in place of a file


@pytest.mark.timeout(10)
def test_fifo(file: Path) -> None:
    os.mkfifo(file)
    assert "regular" in refused(file)


def test_directory(file: Path) -> None:
    file.mkdir()
    assert "regular" in refused(file)


def test_empty_file(file: Path) -> None:
    assert "empty" in refused(file, b"")


def test_symlinks_to_files_are_followed(file: Path, tmp_path: Path) -> None:
    pack(tmp_path / "there", *sample())
    file.symlink_to(tmp_path / "there")
    assert load(file).header["model_id"] == "m"


def test_missing_file_and_dangling_symlink(file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(file)
    file.symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        load(file)


def test_unopenable(file: Path, tmp_path: Path) -> None:
    file.symlink_to(file)
    assert "cannot be read" in refused(file)
    (tmp_path / "plain").write_bytes(b"x")
    assert "cannot be read" in refused(tmp_path / "plain" / "m.pkl")


def test_size_cap_comes_first(file: Path, genuine: bytes) -> None:
    file.write_bytes(genuine)
    assert load(file, max_bytes=len(genuine)).size == len(genuine)
    assert "train a smaller model" in refused(file, max_bytes=len(genuine) - 1)
    with file.open("wb") as huge:
        huge.truncate(2**40)
    assert str(2**40) in refused(file)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_refusals_leak_no_descriptor(file: Path, tmp_path: Path, genuine: bytes) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    gc.collect()
    before = count()
    for content in (b"", b"{}", genuine[:-1], genuine + b"."):
        refused(file, content)
    refused(tmp_path)
    gc.collect()  # what pytest.raises caught is a cycle, and holds the map
    assert count() == before
