"""The data chef of a plug-in passes the conformance suite, and faulty ones fail the right tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import pytest

from recserver._internal.core.errors import InvalidInput
from recserver.testing import DataChefSuite
from tests.helpers.shared_worker import one_worker_serves_all_tests

PLUGINS = Path(__file__).parents[1] / "plugins"
CANARY = "c4n4ry-Pa55word"

Entry = dict[str, Any]

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", autouse=True)
def one_worker() -> Iterator[None]:
    with one_worker_serves_all_tests():
        yield


@pytest.fixture(autouse=True)
def plugins_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their packages are on the path, which worker processes inherit."""
    monkeypatch.syspath_prepend(PLUGINS)


@cache
def as_xml(columns: tuple[str, ...], rows: tuple[tuple[Any, ...], ...]) -> bytes:
    """A file in the format of the plug-in."""
    from recserver_xml_chef import write_rows

    file = BytesIO()
    write_rows(file, columns, rows)
    return file.getvalue()


class TestPlugin(DataChefSuite):
    unusable: ClassVar = [{"type": "xml"}, {"type": "xml", "file": 5}]
    missing: ClassVar = {"type": "xml", "file": "absent.xml", "auth": {"password": CANARY}}
    secret = CANARY

    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Entry:
        (data_dir / "rows.xml").write_bytes(as_xml(tuple(columns), tuple(rows)))
        return {"type": "xml", "file": "rows.xml"}


class Wrong(TestPlugin):
    """The suite for a chef with a fault."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        given = {"type": "wrong", "fault": fault}
        self.unusable = [given, {**given, "file": 5}]
        self.missing = {**TestPlugin.missing, **given}

    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Entry:
        entry = super().source(data_dir, columns, rows) | {"type": "wrong", "fault": self.fault}
        return entry | ({"process": os.getpid()} if self.fault == "is right only here" else {})


class Unmasked(Wrong):
    """Its password is under a key that is not masked."""

    def __init__(self) -> None:
        super().__init__("none")
        self.missing = {"type": "wrong", "file": "absent.xml", "password_of_ours": CANARY}


class Alive(Wrong):
    """Its entry contains an object that is not JSON."""

    def __init__(self) -> None:
        super().__init__("none")

    def source(self, data_dir: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Entry:
        return super().source(data_dir, columns, rows) | {"process": object()}


SLOW = "test_a_worker_process_needs_only_the_entry"
TESTS = [name for name in dir(DataChefSuite) if name.startswith("test_")]


def failing(suite: DataChefSuite, folder: Path, *, slow: bool) -> dict[str, str]:
    """Failing test → its message. The tests are called as plain methods, without pytest."""
    said = {}
    for name in TESTS:
        if name == SLOW and not slow:
            continue
        (own := folder / name).mkdir()
        try:
            getattr(suite, name)(own)
        except AssertionError as error:
            said[name] = str(error)
        except Exception as error:
            said[name] = repr(error)
    return said


FAULTS: dict[str, tuple[str, str]] = {
    "refuses nothing": ("test_unusable_entries_are_refused", "in the constructor"),
    "refuses without a word": ("test_unusable_entries_are_refused", "not KeyError('file')"),
    "looks early": ("test_the_constructor_does_not_contact_the_source", "must not contact the source of a good"),
    "insists": ("test_the_constructor_does_not_contact_the_source", "must accept an entry whose source"),
    "stumbles": ("test_warnings_are_sentences", "must not raise for a missing source"),
    "mumbles": ("test_warnings_are_sentences", "must be a sentence, not 'ENOENT'"),
    "worries": ("test_warnings_are_sentences", "must be empty if the source exists"),
    "gives everything": ("test_only_requested_columns_are_read", "must yield {"),
    "minds the unknown": ("test_only_requested_columns_are_read", "must be ignored, and raised KeyError('no"),
    "gives the usual": ("test_all_columns_are_read_by_default", "must yield all of"),
    "names columns once": ("test_batches_are_well_formed", "column_names must be those of the source, not ()"),
    "names what it gives": ("test_batches_are_well_formed", "column_names of the last batch must be all columns"),
    "gives lists": ("test_batches_are_well_formed", "must be a numpy or Arrow array"),
    "gives ragged columns": ("test_batches_are_well_formed", "must be equally long"),
    "stops early": ("test_all_rows_are_read_in_order", "has 1200 rows, but 1000 values"),
    "turns round": ("test_all_rows_are_read_in_order", "differ from the source's"),
    "hands over everything at once": ("test_batches_have_about_the_requested_length", "the longest has 1200"),
    "reads once": ("test_reading_again_gives_the_same", "by the same chef gave []"),
    "dislikes emptiness": ("test_an_empty_source_has_no_rows", "and raised ValueError('no rows')"),
    "starts over twice": ("test_a_read_restarts_once_at_most", "was raised 2 times"),
    "starts a preview over": ("test_a_read_restarts_once_at_most", "a preview does not restart"),
    "holds on": ("test_the_source_is_closed", "1 more are open"),
    "fails raw": ("test_a_missing_source_fails_with_a_sentence", "not FileNotFoundError"),
    "is mute": ("test_a_missing_source_fails_with_a_sentence", "raised nothing"),
    "tells": ("test_secrets_are_never_revealed", "must not reveal the secret"),
    "refuses other keys": ("test_a_training_reads_the_rows", "keys that mean nothing"),
    "rounds ids": ("test_a_training_reads_the_rows", "should have read"),
    "leaves a look empty": ("test_a_preview_shows_the_first_rows", "and named []"),
    "is right only here": (SLOW, "This is another process."),
}

SECRET, TRAINING = "test_secrets_are_never_revealed", "test_a_training_reads_the_rows"
ALSO: dict[str, set[str]] = {
    "insists": {"test_warnings_are_sentences", "test_a_missing_source_fails_with_a_sentence", SECRET},
    "stumbles": {SECRET},
    "mumbles": {SECRET},
    "worries": {SECRET},
    "minds the unknown": {TRAINING},
    "gives lists": {TRAINING, "test_a_preview_shows_the_first_rows"},
    "gives ragged columns": {"test_all_rows_are_read_in_order"},
    "starts over twice": {TRAINING},
    "starts a preview over": {"test_the_source_is_closed"},
    "fails raw": {SECRET},
    "is mute": {SECRET},
}
"""Further tests that fail because of the same fault."""


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_fails_its_test(tmp_path: Path, fault: str) -> None:
    name, sentence = FAULTS[fault]
    said = failing(Wrong(fault), tmp_path, slow=name == SLOW)
    assert sentence in said.get(name, "it passes"), said
    assert set(said) == {name} | ALSO.get(fault, set()), said


def test_an_unmasked_secret_fails_the_suite(tmp_path: Path) -> None:
    said = failing(Unmasked(), tmp_path, slow=False)
    assert set(said) == {SECRET} and "would show it" in said[SECRET]


def test_an_entry_that_is_not_json_fails_the_suite(tmp_path: Path) -> None:
    said = failing(Alive(), tmp_path, slow=True)
    assert "must be valid as JSON" in said[SLOW]


def test_a_chef_without_an_entry_point_is_not_found(tmp_path: Path) -> None:
    class Nowhere(TestPlugin):
        unusable: ClassVar = [{"type": "nowhere"}]

    with pytest.raises(InvalidInput, match=r"'nowhere' is not known: take one of .*xml"):
        Nowhere().test_unusable_entries_are_refused(tmp_path)


def test_every_test_of_the_suite_notices_a_fault() -> None:
    assert {name for name, _ in FAULTS.values()} == set(TESTS)


@pytest.mark.slow
def test_the_helpers_do_without_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None; import recserver.testing as t; print(t.DataChefSuite.__name__)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "DataChefSuite"
