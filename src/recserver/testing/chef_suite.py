"""The conformance suite of data chefs: what recserver relies on, as tests that any chef's author can inherit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from recserver.chefs.lookup import load_chef_class
from recserver.chefs.secrets import MASK, mask_entry
from recserver.core.errors import InvalidInput, SourceFailed
from recserver.testing.chef_under_test import BATCH_ROWS, COLUMNS, FEW_ROWS, MANY_ROWS, ChefUnderTest
from recserver.testing.observed_chef import (
    as_text,
    check,
    close,
    environment_variable,
    is_sentence,
    read,
    replace_text,
    watch_access,
)
from recserver.training.executors.process_pool import ProcessExecutor
from recserver.training.ingest.source_reader import collect
from recserver.training.jobs import Preview, PreviewJob, Progress

VARIABLE_NAME = "RECSERVER_CONFORMANCE_SECRET"
"""The environment variable that holds a secret meanwhile."""


class DataChefSuite(ChefUnderTest):
    """Tests of a data chef. Inherit from it in a class that pytest collects, and fill in what has no default.

    The chef is found by the ``type`` of its entries, as a server finds it: its package must be installed, with
    its entry point. The tests are plain methods; each takes an empty folder, which serves as the data folder.
    """

    # What an entry may say

    def test_unusable_entries_are_refused(self, tmp_path: Path) -> None:
        for entry in self.unusable:
            kind = load_chef_class(str(entry["type"]))
            try:
                kind(entry, self.policy(tmp_path))
            except InvalidInput as error:
                check(is_sentence(str(error)), f"InvalidInput for {entry} must be a sentence, not {str(error)!r}.")
            except Exception as error:
                raise AssertionError(f"{entry} must raise InvalidInput, not {error!r}.") from error
            else:
                raise AssertionError(f"{entry} must raise InvalidInput in the constructor.")

    def test_the_constructor_does_not_contact_the_source(self, tmp_path: Path) -> None:
        good = self.source(tmp_path, COLUMNS, FEW_ROWS)
        for name, entry in (("a good entry", good), ("an entry whose source is missing", self.missing)):
            kind = load_chef_class(str(entry["type"]))
            before = self.contact_count()
            with watch_access(tmp_path) as touched:
                try:
                    kind(entry, self.policy(tmp_path))
                except Exception as error:
                    raise AssertionError(f"The constructor must take {name}, and raised {error!r}.") from error
            check(not touched, f"The constructor must not contact the source of {name}, and did: {touched}.")
            check(
                self.contact_count() == before, f"The constructor must not contact the source of {name}, and did."
            )

    def test_warnings_are_sentences(self, tmp_path: Path) -> None:
        good = self.make(self.source(tmp_path, COLUMNS, FEW_ROWS), tmp_path).warnings()
        check(good == [], f"warnings() must be empty while the source is there, not {good!r}.")
        try:
            found = self.make(self.missing, tmp_path).warnings()
        except Exception as error:
            raise AssertionError(
                f"warnings() must not raise for a missing source, and raised {error!r}."
            ) from error
        check(isinstance(found, list), f"warnings() must be a list, not {found!r}.")
        for one in found:
            check(is_sentence(one), f"Each warning must be a sentence, not {one!r}.")

    # What batches hold

    def test_all_columns_come_when_none_are_named(self, tmp_path: Path) -> None:
        reading = read(self.make_few(tmp_path), None)
        check(reading.names() == set(COLUMNS), f"batches(None) must give all of {COLUMNS}, not {reading.names()}.")
        notes = as_text(reading.values("note"))
        check(notes == [row[3] for row in FEW_ROWS], f"The column 'note' came as {notes}.")

    def test_only_requested_columns_come(self, tmp_path: Path) -> None:
        wanted = {"item_id", "note", "no such column"}
        try:
            reading = read(self.make_few(tmp_path), wanted)
        except Exception as error:
            raise AssertionError(f"A wanted column that is not there must be no error: {error!r}.") from error
        given = wanted - {"no such column"}
        check(reading.names() == given, f"batches({wanted}) must give {given}, not {reading.names()}.")
        items = as_text(reading.values("item_id"))
        check(items == [row[1] for row in FEW_ROWS], f"The column 'item_id' came as {items}.")

    def test_batches_are_well_formed(self, tmp_path: Path) -> None:
        entry = self.source(tmp_path, COLUMNS, MANY_ROWS)
        for wanted in (None, {"user_id", "item_id"}):
            batches = read(self.make(entry, tmp_path), wanted).batches
            for place, batch in enumerate(batches):
                where = f"Batch {place} of batches({wanted})"
                check(
                    set(COLUMNS) >= set(batch.column_names) >= set(batch.columns),
                    f"{where}: found must name the columns of the source, not {batch.column_names!r}.",
                )
                lengths = {name: len(column) for name, column in batch.columns.items()}
                check(len(set(lengths.values())) <= 1, f"{where}: columns must be equally long, not {lengths}.")
                for name, column in batch.columns.items():
                    check(
                        isinstance(column, np.ndarray | pa.Array | pa.ChunkedArray),
                        f"{where}: column {name!r} must be a numpy or Arrow array, not {type(column)}.",
                    )
            last = batches[-1].column_names
            check(
                set(last) == set(COLUMNS),
                f"batches({wanted}): found must name all columns in the end, wanted or not, and names {last}.",
            )

    def test_rows_come_complete_and_in_order(self, tmp_path: Path) -> None:
        entry = self.source(tmp_path, COLUMNS, MANY_ROWS)
        for wanted in (None, {"user_id", "item_id", "rating"}):
            reading = read(self.make(entry, tmp_path), wanted)
            for place, name in enumerate(COLUMNS[:2]):
                came, is_there = as_text(reading.values(name)), [row[place] for row in MANY_ROWS]
                check(len(came) == len(is_there), f"{len(is_there)} rows are there, {len(came)} came of {name!r}.")
                check(came == is_there, f"batches({wanted}): the values of {name!r} are not those of the source.")
            ratings = [float(one) for one in reading.values("rating")]
            check(ratings == [row[2] for row in MANY_ROWS], "The values of 'rating' are not those of the source.")

    def test_batches_are_about_as_long_as_asked_for(self, tmp_path: Path) -> None:
        reading = read(self.make(self.source(tmp_path, COLUMNS, MANY_ROWS), tmp_path), None)
        longest = max((batch.n_rows for batch in reading.batches), default=0)
        check(
            longest <= self.max_batch_rows,
            f"policy.batch_rows asks for about {BATCH_ROWS} rows a batch; the longest has {longest}.",
        )

    def test_reading_again_gives_the_same(self, tmp_path: Path) -> None:
        entry = self.source(tmp_path, COLUMNS, FEW_ROWS)
        chef = self.make(entry, tmp_path)
        first = as_text(read(chef, None).values("user_id"))
        for how, one in (("the same chef", chef), ("another chef of the same entry", self.make(entry, tmp_path))):
            again = as_text(read(one, None).values("user_id"))
            check(again == first, f"Reading again by {how} gave {again}, and {first} before.")

    def test_an_empty_source_has_no_rows(self, tmp_path: Path) -> None:
        chef = self.make(self.source(tmp_path, COLUMNS, []), tmp_path)
        try:
            rows = sum(batch.n_rows for batch in read(chef, None).batches)
        except SourceFailed as error:
            check(
                is_sentence(str(error)), f"SourceFailed of an empty source must be a sentence, not {str(error)!r}."
            )
            return
        except Exception as error:
            raise AssertionError(f"An empty source must raise SourceFailed or nothing, not {error!r}.") from error
        check(rows == 0, f"An empty source must give no rows, not {rows}.")

    def test_restarting_happens_once_at_most(self, tmp_path: Path) -> None:
        chef = self.make_few(tmp_path)
        starts = read(chef, {"user_id", "item_id", "rating"}).restarts
        check(starts <= 1, f"StartOver may be raised once in a reading, and was raised {starts} times.")
        starts = read(chef, None).restarts
        check(starts == 0, "StartOver must not be raised by batches(None): a preview does not start over.")

    # How the source is let go, and what is said of one that is not there

    def test_the_source_is_closed(self, tmp_path: Path) -> None:
        chef = self.make(self.source(tmp_path, COLUMNS, MANY_ROWS), tmp_path)
        read(chef, None)  # what a library opens once for all is open now
        before = self.open_handles()
        for how in ("closed after the first batch", "read to its end"):
            batches = chef.batches(None)
            next(batches, None)
            if how == "read to its end":
                list(batches)
            else:
                close(batches)
            del batches
            more = self.open_handles() - before
            check(
                more <= 0, f"When batches() is {how}, the source must be let go: {more} more are open than before."
            )

    def test_a_missing_source_fails_with_a_sentence(self, tmp_path: Path) -> None:
        sentence = self.failure_message(self.missing, tmp_path)
        check(is_sentence(sentence), f"SourceFailed must say in one sentence what is wrong, not {sentence!r}.")

    def test_secrets_are_never_revealed(self, tmp_path: Path) -> None:
        if not self.secret:
            return
        check(
            self.secret in json.dumps(dict(self.missing)), "The entry `missing` must hold `secret`, written out."
        )
        check(
            self.secret not in json.dumps(mask_entry(self.missing)),
            "recserver does not know that this is a secret, and would show it: keep it in auth, headers, "
            f"db_config.password or the URL in url or connection, where it is shown as {MASK}.",
        )
        sentence = self.failure_message(self.missing, tmp_path)
        check(self.secret not in sentence, f"SourceFailed must not tell the secret: {sentence!r}.")
        entry = replace_text(self.missing, self.secret, f"${{{VARIABLE_NAME}}}")
        with environment_variable(VARIABLE_NAME, self.secret):
            sentence = self.failure_message(entry, tmp_path)
            check(self.secret not in sentence, f"SourceFailed must not tell a variable's value: {sentence!r}.")
        with environment_variable(VARIABLE_NAME, None):
            found = self.make(entry, tmp_path).warnings()
            check(
                VARIABLE_NAME in " ".join(found),
                f"warnings() must name a variable that is not set, not say {found}.",
            )
            sentence = self.failure_message(entry, tmp_path)
            check(
                VARIABLE_NAME in sentence,
                f"SourceFailed must name a variable that is not set, not say {sentence!r}.",
            )

    # What recserver makes of it

    def test_a_training_takes_the_rows(self, tmp_path: Path) -> None:
        rows = [
            ("u1", "i1", 5),
            (7, 9007199254740993, 2),
            ("007", "\u00fc \u6728", 1),
            ("u1", "i2", 3),
            (None, "i1", 4),
            ("u1", "i1", 4),
        ]
        entry = dict(self.source(tmp_path, ("customer", "product", "stars"), rows))
        entry["rename_columns"] = "customer->user_id,product->item_id,stars->rating"
        told: list[Progress] = []
        collected = collect(self.training_job(entry, tmp_path), told.append)
        found = collected.interactions
        users = np.repeat(found.users, np.diff(found.indptr)).tolist()
        items = [found.items[place] for place in found.indices]
        came = dict(zip(zip(users, items, strict=True), found.ratings.tolist(), strict=True))
        pairs = ("u1", "i1"), ("7", "9007199254740993"), ("007", "\u00fc \u6728"), ("u1", "i2")
        expected = dict(zip(pairs, (4.0, 2.0, 1.0, 3.0), strict=True))
        check(came == expected, f"A training should have learned {expected}, and learned {came}.")
        report = collected.data_report
        check(
            (report.rows_read, report.rows_kept) == (6, 5),
            f"6 rows are there and 5 are usable, but {report.rows_read} were read and {report.rows_kept} kept "
            f"({report.rejected}).",
        )

    def test_a_preview_shows_the_first_rows(self, tmp_path: Path) -> None:
        seen = self.preview_of(self.source(tmp_path, COLUMNS, FEW_ROWS), tmp_path)
        check(set(seen.columns) == set(COLUMNS), f"A preview should name {COLUMNS}, and named {seen.columns}.")
        check(
            seen.rows_read == len(FEW_ROWS),
            f"A preview should read {len(FEW_ROWS)} rows, and read {seen.rows_read}.",
        )
        shown = [(row.get("user_id"), row.get("item_id"), row.get("rating")) for row in seen.renamed]
        check(shown == [row[:3] for row in FEW_ROWS[:2]], f"A preview of two rows showed {shown}.")

    def test_a_worker_process_needs_only_the_entry(self, tmp_path: Path) -> None:
        entry = dict(self.source(tmp_path, COLUMNS, FEW_ROWS))
        try:
            again = json.loads(json.dumps(entry))
        except (TypeError, ValueError) as error:
            raise AssertionError(f"An entry must be what JSON can hold: {error}.") from error
        check(again == entry, f"An entry must be the same after a journey as JSON: {entry} became {again}.")
        here = self.preview_of(entry, tmp_path)
        try:
            there = asyncio.run(_preview_in_worker(self.preview_job(entry, tmp_path)))
        except Exception as error:
            raise AssertionError(f"A worker process cannot read the source: {error}") from error
        check(there == here, f"A worker process saw {there}, and this process {here}.")


async def _preview_in_worker(job: PreviewJob) -> Preview:
    executor = ProcessExecutor(1)
    try:
        return await executor.preview(job)
    finally:
        await executor.close()
