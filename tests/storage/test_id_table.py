"""Tables of ids."""

from __future__ import annotations

import numpy as np
import pytest

from recserver._internal.core.errors import UnreadableModel
from recserver._internal.storage.model_file import id_table as module
from recserver._internal.storage.model_file.id_table import IdIndex, pack_ids

IDS = sorted(["a", "ab", "a\x00", "b", "é", "日本", "😀", "\uffff", "z" * 300], key=str.encode)


def table(*ids: str) -> IdIndex:
    return IdIndex(*pack_ids(ids))


def test_ids_are_found() -> None:
    ids = table(*IDS)
    assert len(ids) == len(IDS)
    assert list(ids) == IDS
    assert [ids.find(text) for text in IDS] == list(range(len(IDS)))
    assert (ids[-1], ids[1:3], ids[::-2]) == (IDS[-1], IDS[1:3], IDS[::-2])
    assert IDS[3] in ids
    for missing in ("", "A", "aa", "a\x00\x00", "日", "zz", "\U0010ffff", "\ud800"):
        assert ids.find(missing) is None
        assert missing not in ids
    assert 3 not in ids
    for index in (len(IDS), -len(IDS) - 1):
        with pytest.raises(IndexError):
            ids[index]


def test_no_ids_and_one_id() -> None:
    assert (len(table()), list(table()), table().find("a")) == (0, [], None)
    assert (table("").find(""), table("").find("a"), list(table(""))) == (0, None, [""])
    assert (table("b").find("a"), table("b").find("b"), table("b").find("c")) == (None, 0, None)


def test_offsets_may_be_unaligned_or_strided() -> None:
    content, offsets = pack_ids(IDS)
    shifted = np.frombuffer(b"x" + offsets.tobytes(), np.int64, offset=1)
    strided = np.repeat(offsets, 2)[::2]
    assert [IdIndex(content, moved).find(IDS[4]) for moved in (shifted, strided)] == [4, 4]


def test_many_ids_over_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 7)
    many = sorted({f"ü{n * 37 % 1000}" for n in range(1000)}, key=str.encode)
    ids = table(*many)
    assert [ids.find(text) for text in many] == list(range(1000))
    for at in range(999):  # the seams between chunks are compared as well
        swapped = [*many[:at], many[at + 1], many[at], *many[at + 2 :]]
        with pytest.raises(UnreadableModel):
            table(*swapped)


@pytest.mark.parametrize(
    "ids",
    [
        ["a", "a"],
        ["b", "a"],
        ["", ""],
        ["ab", "a"],
        ["a\x00", "a"],
        ["\U0001f600", "\uffff"],
        ["a", "c", "b"],
    ],
)
def test_ids_out_of_order_or_doubled_are_refused(ids: list[str]) -> None:
    with pytest.raises(UnreadableModel, match="order or not unique"):
        table(*ids)


@pytest.mark.parametrize(
    ("content", "offsets"),
    [
        (b"ab", []),
        (b"ab", [0]),
        (b"ab", [0, 1]),
        (b"ab", [1, 2]),
        (b"ab", [0, 3]),
        (b"ab", [0, 2, 1, 2]),
        (b"ab", [0, -1, 2]),
        (b"ab", [0, 2**63 - 1, -(2**63), 2]),
        (b"", [0, 0, 0]),
        (b"\xff", [0, 1]),
        (b"\xc0\x80", [0, 2]),
        (b"\xed\xa0\x80", [0, 3]),
        (b"\xc3", [0, 1]),
        ("é".encode(), [0, 1, 2]),
        ("aé".encode(), [0, 2, 3]),
    ],
)
def test_damaged_tables_are_refused(content: bytes, offsets: list[int]) -> None:
    with pytest.raises(UnreadableModel, match="table of ids"):
        IdIndex(np.frombuffer(content, np.uint8), np.array(offsets, np.int64))


@pytest.mark.parametrize(
    ("content", "offsets"),
    [
        (np.zeros(1, np.int8), np.array([0, 1])),
        (np.zeros((1, 1), np.uint8), np.array([0, 1])),
        (np.zeros(1, np.uint8), np.array([0.0, 1.0])),
        (np.zeros(1, np.uint8), np.array([0, 1], np.int32)),
        (np.zeros(1, np.uint8), np.array([0, 1], np.uint64)),
        (np.zeros(1, np.uint8), np.array([[0, 1]])),
        (np.zeros(1, np.uint8), np.array(0)),
    ],
)
def test_tables_of_other_kinds_are_refused(content: np.ndarray, offsets: np.ndarray) -> None:
    with pytest.raises(UnreadableModel, match="wrong kind"):
        IdIndex(content, offsets)


def test_ids_with_lone_surrogates_cannot_be_packed() -> None:
    with pytest.raises(UnicodeEncodeError):
        pack_ids(["\ud800"])
