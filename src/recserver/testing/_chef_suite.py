"""The conformance suite of data chefs: what recserver relies on, as tests that authors inherit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from recserver._internal.chefs.lookup import load_chef_class
from recserver._internal.chefs.secrets import MASK, mask_entry
from recserver._internal.core.errors import InvalidInput, SourceFailed
from recserver._internal.training.executors.process_pool import ProcessExecutor
from recserver._internal.training.ingest.source_reader import collect
from recserver._internal.training.jobs import Preview, PreviewJob
from recserver._internal.training.preview.source_preview import preview
from recserver.testing._checks import check, check_sentence, must_raise, must_work, through_json
from recserver.testing._chef_under_test import BATCH_ROWS, COLUMNS, FEW_ROWS, MANY_ROWS, ChefUnderTest
from recserver.testing._observed_chef import as_text, close, environment_variable, read, replace_text, watch_access

VARIABLE_NAME = "RECSERVER_CONFORMANCE_SECRET"
"""The environment variable that holds the secret during a test."""


class DataChefSuite(ChefUnderTest):
    """Tests of a data chef. Inherit from it in a class that pytest collects, and fill in what has no default.

    The chef is found by the ``type`` of its entries, as a server finds it: its package must be installed, with
    its entry point. The tests are plain methods; each takes an empty folder, which is the data folder.
    """

    # The entry

    def test_unusable_entries_are_refused(self, tmp_path: Path) -> None:
        for entry in self.unusable:
            chef_class = load_chef_class(str(entry["type"]))  # an unknown type must not pass as a refusal
            with must_raise(InvalidInput, f"{entry} must raise InvalidInput in the constructor"):
                chef_class(entry, self.policy(tmp_path))

    def test_the_constructor_does_not_contact_the_source(self, tmp_path: Path) -> None:
        good = self.source(tmp_path, COLUMNS, FEW_ROWS)
        for name, entry in (("a good entry", good), ("an entry whose source is missing", self.missing)):
            load_chef_class(str(entry["type"]))  # importing its module reads files
            before = self.contact_count()
            with watch_access(tmp_path) as accesses, must_work(f"The constructor must accept {name}"):
                self.make(entry, tmp_path)
            message = f"The constructor must not contact the source of {name}, and did"
            check(not accesses, f"{message}: {accesses}.")
            check(self.contact_count() == before, f"{message}.")

    def test_warnings_are_sentences(self, tmp_path: Path) -> None:
        good = self.make(self.source(tmp_path, COLUMNS, FEW_ROWS), tmp_path).warnings()
        check(good == [], f"warnings() must be empty if the source exists, not {good!r}.")
        with must_work("warnings() must not raise for a missing source"):
            warnings = self.make(self.missing, tmp_path).warnings()
        check(isinstance(warnings, list), f"warnings() must be a list, not {warnings!r}.")
        for warning in warnings:
            check_sentence(warning, "Each warning")

    # Batches

    def test_all_columns_are_read_by_default(self, tmp_path: Path) -> None:
        reading = read(self.make_few(tmp_path), None)
        check(
            reading.names() == set(COLUMNS), f"batches(None) must yield all of {COLUMNS}, not {reading.names()}."
        )
        notes = as_text(reading.values("note"))
        check(notes == [row[3] for row in FEW_ROWS], f"The values of 'note' were read as {notes}.")

    def test_only_requested_columns_are_read(self, tmp_path: Path) -> None:
        requested = {"item_id", "note", "no such column"}
        with must_work("A requested column that does not exist must be ignored"):
            reading = read(self.make_few(tmp_path), requested)
        expected = requested - {"no such column"}
        check(reading.names() == expected, f"batches({requested}) must yield {expected}, not {reading.names()}.")
        items = as_text(reading.values("item_id"))
        check(items == [row[1] for row in FEW_ROWS], f"The values of 'item_id' were read as {items}.")

    def test_batches_are_well_formed(self, tmp_path: Path) -> None:
        entry = self.source(tmp_path, COLUMNS, MANY_ROWS)
        for requested in (None, {"user_id", "item_id"}):
            batches = read(self.make(entry, tmp_path), requested).batches
            for index, batch in enumerate(batches):
                where = f"Batch {index} of batches({requested})"
                check(
                    set(COLUMNS) >= set(batch.column_names) >= set(batch.columns),
                    f"{where}: column_names must be those of the source, not {batch.column_names!r}.",
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
                f"batches({requested}): column_names of the last batch must be all columns, also those that were "
                f"not requested, not {last}.",
            )

    def test_all_rows_are_read_in_order(self, tmp_path: Path) -> None:
        entry = self.source(tmp_path, COLUMNS, MANY_ROWS)
        for requested in (None, {"user_id", "item_id", "rating"}):
            reading = read(self.make(entry, tmp_path), requested)
            for index, name in enumerate(COLUMNS[:2]):
                values, expected = as_text(reading.values(name)), [row[index] for row in MANY_ROWS]
                check(
                    len(values) == len(expected),
                    f"The source has {len(expected)} rows, but {len(values)} values of {name!r} were read.",
                )
                check(values == expected, f"batches({requested}): values of {name!r} differ from the source's.")
            ratings = [float(value) for value in reading.values("rating")]
            check(ratings == [row[2] for row in MANY_ROWS], "Values of 'rating' differ from the source's.")

    def test_batches_have_about_the_requested_length(self, tmp_path: Path) -> None:
        reading = read(self.make(self.source(tmp_path, COLUMNS, MANY_ROWS), tmp_path), None)
        longest = max((batch.n_rows for batch in reading.batches), default=0)
        check(
            longest <= self.max_batch_rows,
            f"policy.batch_rows requests about {BATCH_ROWS} rows a batch, but the longest has {longest}.",
        )

    def test_reading_again_gives_the_same(self, tmp_path: Path) -> None:
        entry = self.source(tmp_path, COLUMNS, FEW_ROWS)
        chef = self.make(entry, tmp_path)
        first = as_text(read(chef, None).values("user_id"))
        for which, other in (("the same chef", chef), ("another chef of the entry", self.make(entry, tmp_path))):
            again = as_text(read(other, None).values("user_id"))
            check(again == first, f"Reading again by {which} gave {again}, and {first} before.")

    def test_an_empty_source_has_no_rows(self, tmp_path: Path) -> None:
        chef = self.make(self.source(tmp_path, COLUMNS, []), tmp_path)
        with must_work("An empty source must raise SourceFailed or nothing"):
            try:
                rows = sum(batch.n_rows for batch in read(chef, None).batches)
            except SourceFailed as error:
                check_sentence(str(error), "SourceFailed of an empty source")
                return
        check(rows == 0, f"An empty source must yield no rows, not {rows}.")

    def test_a_read_restarts_once_at_most(self, tmp_path: Path) -> None:
        chef = self.make_few(tmp_path)
        restarts = read(chef, {"user_id", "item_id", "rating"}).restarts
        check(restarts <= 1, f"RestartRead may be raised once in a reading, and was raised {restarts} times.")
        restarts = read(chef, None).restarts
        check(restarts == 0, "batches(None) must not raise RestartRead: a preview does not restart.")

    # Closing, failures and secrets

    def test_the_source_is_closed(self, tmp_path: Path) -> None:
        chef = self.make(self.source(tmp_path, COLUMNS, MANY_ROWS), tmp_path)
        read(chef, None)  # so that what a library opens once is open now
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
                more <= 0, f"When batches() is {how}, the source must be closed: {more} more are open than before."
            )

    def test_a_missing_source_fails_with_a_sentence(self, tmp_path: Path) -> None:
        self.failure_message(self.missing, tmp_path)

    def test_secrets_are_never_revealed(self, tmp_path: Path) -> None:
        if not self.secret:
            return
        check(self.secret in json.dumps(dict(self.missing)), "The entry `missing` must contain `secret` in clear.")
        check(
            self.secret not in json.dumps(mask_entry(self.missing)),
            "recserver does not recognise this secret, and would show it: put it in auth, headers, "
            f"db_config.password or the URL in url or connection, where it is shown as {MASK}.",
        )
        message = self.failure_message(self.missing, tmp_path)
        check(self.secret not in message, f"SourceFailed must not reveal the secret: {message!r}.")
        entry = replace_text(self.missing, self.secret, f"${{{VARIABLE_NAME}}}")
        with environment_variable(VARIABLE_NAME, self.secret):
            message = self.failure_message(entry, tmp_path)
            check(self.secret not in message, f"SourceFailed must not reveal a variable's value: {message!r}.")
        with environment_variable(VARIABLE_NAME, None):
            texts = {
                "warnings()": " ".join(self.make(entry, tmp_path).warnings()),
                "SourceFailed": self.failure_message(entry, tmp_path),
            }
            for name, text in texts.items():
                check(VARIABLE_NAME in text, f"{name} must name a variable that is not set, not be {text!r}.")

    # The chef in recserver

    def test_a_training_reads_the_rows(self, tmp_path: Path) -> None:
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
        collected = collect(self.training_job(entry, tmp_path), lambda progress: None)
        interactions = collected.interactions
        users = np.repeat(interactions.users, np.diff(interactions.indptr)).tolist()
        items = [interactions.items[index] for index in interactions.indices]
        read_ratings = dict(zip(zip(users, items, strict=True), interactions.ratings.tolist(), strict=True))
        pairs = ("u1", "i1"), ("7", "9007199254740993"), ("007", "\u00fc \u6728"), ("u1", "i2")
        expected = dict(zip(pairs, (4.0, 2.0, 1.0, 3.0), strict=True))
        check(read_ratings == expected, f"A training should have read {expected}, not {read_ratings}.")
        report = collected.data_report
        check(
            (report.rows_read, report.rows_kept) == (6, 5),
            f"5 of the 6 rows are valid, but {report.rows_read} were read and {report.rows_kept} were valid "
            f"({report.rejected}).",
        )

    def test_a_preview_shows_the_first_rows(self, tmp_path: Path) -> None:
        result = preview(self.preview_job(self.source(tmp_path, COLUMNS, FEW_ROWS), tmp_path))
        check(set(result.columns) == set(COLUMNS), f"A preview should name {COLUMNS}, and named {result.columns}.")
        check(
            result.rows_read == len(FEW_ROWS),
            f"A preview should read {len(FEW_ROWS)} rows, and read {result.rows_read}.",
        )
        shown = [(row.get("user_id"), row.get("item_id"), row.get("rating")) for row in result.renamed]
        check(shown == [row[:3] for row in FEW_ROWS[:2]], f"A preview of two rows showed {shown}.")

    def test_a_worker_process_needs_only_the_entry(self, tmp_path: Path) -> None:
        entry = dict(self.source(tmp_path, COLUMNS, FEW_ROWS))
        again = through_json(entry, "An entry")
        check(again == entry, f"An entry must not change by conversion to JSON and back: {entry} became {again}.")
        here = preview(self.preview_job(entry, tmp_path))
        with must_work("A worker process must be able to read the source"):
            there = asyncio.run(_preview_in_worker(self.preview_job(entry, tmp_path)))
        check(there == here, f"A worker process read {there}, but this process {here}.")


async def _preview_in_worker(job: PreviewJob) -> Preview:
    executor = ProcessExecutor(1, priority="low")
    try:
        return await executor.preview(job)
    finally:
        await executor.close()
