"""What a look at a source advises where its columns are not merely called otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recserver._internal.chefs.chef_entry import object_column
from recserver._internal.chefs.protocol import Batch
from recserver._internal.chefs.redaction import Redactor
from recserver._internal.chefs.row_rules import row_rules
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.training.ingest.row_counts import RowCounts
from recserver._internal.training.jobs import Preview, PreviewJob
from recserver._internal.training.preview.source_diagnosis import SourceSample
from recserver._internal.training.preview.source_preview import preview
from recserver._internal.training.preview.suggestions import preview_hints

Look = Callable[..., Preview]
ROW = {"user_id": "ann", "item_id": "tea"}


@pytest.fixture
def look_at_file(tmp_path: Path) -> Look:
    """Previews a file of the given text."""

    def look(text: str, name: str = "rows.csv", **entry: Any) -> Preview:
        (tmp_path / name).write_text(text)
        entry = {"type": "csv", "path": name} | entry
        return preview(PreviewJob(data_chef=entry, policy=SourcePolicy(data_dir=tmp_path)))

    return look


@pytest.fixture
def look_at_answer(tmp_path: Path) -> Iterator[Look]:
    """Previews a REST source that always gives the same answer."""
    body: list[bytes] = []

    class Source(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body[-1])))
            self.end_headers()
            self.wfile.write(body[-1])

        def log_message(self, *args: Any) -> None:
            pass

    def look(answer: Any, **entry: Any) -> Preview:
        body.append(json.dumps(answer).encode())
        url = f"http://127.0.0.1:{server.server_port}/?token=canary-token"
        policy = SourcePolicy(data_dir=tmp_path, allow_private_sources=True)
        return preview(PreviewJob(data_chef={"type": "api", "url": url} | entry, policy=policy))

    with HTTPServer(("127.0.0.1", 0), Source) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield look
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "entry", "place"),
    [
        ({"payload": {"list": [ROW]}}, {}, "payload.list"),
        ({"records": [ROW]}, {}, "records"),
        ({"status": "ok", "page": 1, "payload": {"list": [ROW]}}, {}, "payload.list"),
        ({"links": [{"href": "x"}], "a": {"b": {"rows": [ROW]}}}, {}, "a.b.rows"),
        ({"links": [{"href": "x"}], "a": {"rows": [ROW]}}, {}, "a.rows"),
        ({"user": "me", "records": [ROW]}, {}, "records"),
        ({"records": [{"u": 1, "i": 2}]}, {"rename_columns": "u->user_id,i->item_id"}, "records"),
    ],
)
def test_rows_that_lie_deeper_are_found(look_at_answer: Look, answer: Any, entry: Any, place: str) -> None:
    assert look_at_answer(answer, **entry).suggestions == [
        f"The answer is one object without user_id; a list of objects is at '{place}': add data_selector: {place}"
    ]
    seen = look_at_answer(answer, **entry, data_selector=place)
    assert (seen.suggestions, seen.rejected) == ([], {})


def test_a_selector_that_leads_not_far_enough_is_corrected(look_at_answer: Look) -> None:
    seen = look_at_answer({"data": {"page": {"rows": [ROW]}}}, data_selector="data")
    assert seen.suggestions == [
        "The answer is one object without user_id; a list of objects is at 'data.page.rows': "
        "correct it to data_selector: data.page.rows"
    ]


def test_a_single_row_that_lies_deeper_is_found(look_at_answer: Look) -> None:
    (sentence,) = look_at_answer({"result": ROW}).suggestions
    assert sentence.endswith("an object with it is at 'result': add data_selector: result")


@pytest.mark.parametrize("answer", [{"userId": "a", "history": [{"movieId": 1}]}, {"userId": "a", "movieId": 1}])
def test_a_row_is_left_a_row(look_at_answer: Look, answer: Any) -> None:
    advised = look_at_answer(answer).suggestions
    assert advised[0] == "There is no column user_id; found 'userId': add userId->user_id to rename_columns."
    assert "data_selector" not in " ".join(advised)


def test_json_lines_are_told_to_be_lines(look_at_file: Look) -> None:
    (sentence,) = look_at_file(json.dumps({"records": [ROW]}), "rows.jsonl").suggestions
    assert sentence.endswith("is at 'records': write the value at this place to the file, one object a line.")


@pytest.mark.parametrize("key", ["error", "errors", "message", "detail", "code", "status", "Error"])
def test_an_error_is_no_row(look_at_answer: Look, key: str) -> None:
    (sentence,) = look_at_answer({key: "bad token canary-token"}).suggestions
    assert sentence == (
        "The source answered with one object that looks like an error, no rows: "
        f'{{"{key}": "bad token ********"}}. Check the url, auth and headers of the data chef.'
    )


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("user_id^item_id\nann^tea\n", "'^'"),
        ("user_id^item_id\n", "'^'"),
        ("u ~ i ~ r\na ~ b ~ 5\n", "'~'"),
        ("ann^tea^5\nbob^tea^4\n", "'^'"),
    ],
)
def test_the_delimiter_is_named(look_at_file: Look, text: str, mark: str) -> None:
    header = text.partition("\n")[0]
    assert look_at_file(text).suggestions == [
        f"The file has one column only, '{header}': give its delimiter, probably {mark}."
    ]
    assert len(look_at_file(text, delimiter=mark.strip("'")).columns) > 1


@pytest.mark.parametrize(("mark", "called"), [(" ", "a blank"), ("::", "'::'")])
def test_what_cannot_be_a_delimiter_is_to_be_replaced(look_at_file: Look, mark: str, called: str) -> None:
    header = mark.join(["user_id", "item_id"])
    assert look_at_file(f"{header}\nann{mark}tea\n").suggestions == [
        f"The file has one column only, '{header}': it seems to be separated by {called}, which cannot be a "
        "delimiter here: write the file with commas or tabs between its columns."
    ]


@pytest.mark.parametrize("header", ["title", "my title"])
def test_a_column_of_titles_is_not_taken_apart(look_at_file: Look, header: str) -> None:
    assert "delimiter" not in " ".join(look_at_file(f"{header}\nThe Matrix\nAlien\n").suggestions)


@pytest.mark.parametrize(
    ("text", "quoted", "header"),
    [
        ("ann,espresso,5\nbob,tea,4\n", "'ann', 'espresso', '5'", "user_id,item_id,rating"),
        ("ann;tea\nann;tea\n", "'ann', 'tea'", "user_id;item_id"),
        ("1\t31\t2.5\t1260759144\n", "'1', '31', '2.5', '1260759144'", "user_id\titem_id\trating\ttimestamp"),
        ("1,1,5\n2,1,5\n", "'1', '1', '5'", "user_id,item_id,rating"),
        ("7,a,3,c,d,e\n", "'7', 'a', '3', 'c', 'd', …", "user_id,item_id,rating,timestamp,column5,column6"),
    ],
)
def test_a_missing_header_is_noticed(look_at_file: Look, text: str, quoted: str, header: str) -> None:
    assert look_at_file(text).suggestions == [
        f"The first line looks like data ({quoted}): add a header line, such as {header}"
    ]
    seen = look_at_file(f"{header}\n{text}")
    assert (seen.suggestions, seen.rejected, seen.rows_read) == ([], {}, text.count("\n"))


@pytest.mark.parametrize("text", ["a,b\nc,d\n", "user,2019,2020\nann,1,2\n", "customer,9\n1,2\n"])
def test_a_header_of_strange_names_is_one(look_at_file: Look, text: str) -> None:
    assert "looks like data" not in " ".join(look_at_file(text).suggestions)


@pytest.mark.parametrize("entry", [{}, {"rename_columns": "user->user_id,item->item_id"}])
def test_columns_that_hold_objects_are_not_to_be_renamed(look_at_answer: Look, entry: dict[str, Any]) -> None:
    seen = look_at_answer([{"user": {"id": "a", "name": "A"}, "item": {"id": "b"}}] * 3, **entry)
    assert seen.suggestions == [
        "There is no plain user_id: 'user' holds objects (id, name), and nested values cannot be renamed: "
        "the source must give plain ids.",
        "There is no plain item_id: 'item' holds objects (id), and nested values cannot be renamed: "
        "the source must give plain ids.",
    ]


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (object_column([{"id": 1}, None, {"id": "x"}]), "objects (id)"),
        (object_column([["a"], ["b"]]), "lists"),
        (pa.array([[1], [2]]), "lists"),
        (pa.array([{str(n): n for n in range(9)}]), "objects (0, 1, 2, 3, 4, …)"),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "objects"),
        (object_column(["plain", {"id": 1}, "text"]), None),
        (np.array([1, 2]), None),
        (object_column([]), None),
    ],
)
def test_columns_of_every_kind_are_known_for_what_they_hold(column: Any, what: str | None) -> None:
    entry: dict[str, Any] = {"type": "sql"}
    columns = {"user_id": column, "item_id": column}
    seen = SourceSample(entry, row_rules(entry), list(columns), columns, 1, None)
    sentences = [
        f"'{name}' holds {what}, and nested values cannot be renamed: the source must give plain ids, each as "
        "a column of its own."
        for name in columns
    ]
    assert preview_hints(seen, RowCounts(), Redactor(entry)) == ([] if what is None else sentences)


@pytest.mark.parametrize(
    ("rating", "cure"),
    [
        ("0,5", "write a point in place of the comma."),
        ("abc", "such a row counts 1."),
        ("1,000,5", "such a row counts 1."),
    ],
)
def test_ratings_that_are_no_numbers_are_counted(look_at_file: Look, rating: str, cure: str) -> None:
    seen = look_at_file("user_id,item_id,rating\n" + f'ann,tea,"{rating}"\n' * 50)
    assert (seen.replaced, seen.rejected) == ({"rating is not a number": 50}, {})
    assert seen.examples == {"rating is not a number": f"rating='{rating}'"}
    assert seen.suggestions == [f"In 50 of 50 rows the rating is not a number, such as '{rating}': {cure}"]


def test_only_numbers_are_offered_as_ratings(look_at_file: Look) -> None:
    assert look_at_file("user_id,item_id,score\nann,tea,good\nann,tea,bad\nbob,tea,5\n").suggestions == []
    (sentence,) = look_at_file("user_id,item_id,score\nann,tea,3\nann,tea,\nbob,tea,bad\n").suggestions
    assert "add score->rating" in sentence


@pytest.mark.parametrize(
    ("kind", "cure"),
    [("csv", "in its header"), ("sql", "in the query, with AS"), ("api", "there"), ("ours", "there")],
)
def test_columns_of_the_same_name_are_told_apart_where_they_come_from(kind: str, cure: str) -> None:
    entry = {"type": kind, "path": "rows.csv"}
    seen = SourceSample(entry, row_rules({}), ["user_id", "user_id", "item_id"], {}, 1, None)
    assert preview_hints(seen, RowCounts(), Redactor(entry)) == [
        f"The source has two columns named 'user_id': give one of them another name {cure}."
    ]


def test_columns_of_the_same_name_are_not_missing_as_well(look_at_file: Look) -> None:
    seen = look_at_file("user_id,user_id,item_id\nann,bob,tea\n")
    assert (seen.rejected, seen.examples, seen.renamed) == ({}, {}, [{"item_id": "tea", "rating": 1}])


def test_hints_of_the_chef_come_last_and_once(look_at_file: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"userid": pa.array(["u"]), "item_id": pa.array(["i"])}
    batch = Batch(tuple(columns), columns, hints=("Ask for more.", "canary-token is old."))
    monkeypatch.setattr(
        "recserver._internal.chefs.files.file_chef.CsvChef.batches", lambda *_: iter([batch, batch])
    )
    seen = look_at_file("", auth={"token": "canary-token"})
    assert seen.suggestions[1:] == [
        "Corrected rename_columns: userid->user_id", "Ask for more.", "******** is old.",
    ]  # fmt: skip
