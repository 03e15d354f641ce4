"""What is suggested where a column is missing."""

from __future__ import annotations

from typing import Any

import pytest

from recserver._internal.chefs.row_rules import row_rules
from recserver._internal.training.ingest.column_suggestions import SourceFacts, column_hints


@pytest.mark.parametrize(
    ("found", "entry", "sentences"),
    [
        (["user_id", "item_id", "rating"], {}, []),
        (["user_id", "item_id"], {}, []),
        ([], {}, []),
        (["userId", "item_id"], {},
         ["There is no column user_id; found 'userId': add userId->user_id to rename_columns.",
          "Corrected rename_columns: userId->user_id"]),
        (["userId", "movieId", "rating", "timestamp"], {},
         ["There is no column user_id; found 'userId': add userId->user_id to rename_columns.",
          "There is no column item_id; found 'movieId': add movieId->item_id to rename_columns.",
          "Corrected rename_columns: userId->user_id,movieId->item_id"]),
        (["Customer", "SKU", "stars"], {},
         ["There is no column user_id; found 'Customer': add Customer->user_id to rename_columns.",
          "There is no column item_id; found 'SKU': add SKU->item_id to rename_columns.",
          "Corrected rename_columns: Customer->user_id,SKU->item_id",
          "Without a column rating every row counts 1; found 'stars': "
          "add stars->rating to rename_columns if it is that.",
          "With stars as the rating, rename_columns: Customer->user_id,SKU->item_id,stars->rating"]),
        (["userId", "item_id"], {"rename_columns": "userid->user_id"},
         ["rename_columns names 'userid', which the source does not have; there is no column user_id; "
          "found 'userId': add userId->user_id to rename_columns.",
          "Corrected rename_columns: userId->user_id"]),
        (["user", "thing"], {"rename_columns": "thing->item_id"},
         ["There is no column user_id; found 'user': add user->user_id to rename_columns.",
          "Corrected rename_columns: thing->item_id,user->user_id"]),
        (["a", "b"], {},
         ["There is no column user_id; found 'a', 'b': "
          "name in rename_columns the one that is user_id, like a->user_id.",
          "There is no column item_id; found 'a', 'b': "
          "name in rename_columns the one that is item_id, like a->item_id."]),
        (["user_id", "item_id", "action"], {"event_weights": {"view": 1}},
         ["There is no column event; found 'action': add action->event to rename_columns.",
          "Corrected rename_columns: action->event"]),
        (["user_id", "item_id", "created_at"], {"half_life_days": 9},
         ["There is no column timestamp; found 'created_at': add created_at->timestamp to rename_columns.",
          "Corrected rename_columns: created_at->timestamp"]),
        (["user_id", "item_id", "stars"], {"constant_rating": 1}, []),
        (["user_id", "item_id", "score"], {"rename_columns": "scor->rating"},
         ["rename_columns names 'scor', which the source does not have; there is no column rating; "
          "found 'score': add score->rating to rename_columns.",
          "Corrected rename_columns: score->rating"]),
        (["userId", "movieId"], {"rename_columns": "userId->user,movieId->Item ID"},
         ["There is no column user_id; rename_columns makes 'user' of 'userId': write userId->user_id there.",
          "There is no column item_id; rename_columns makes 'Item ID' of 'movieId': write movieId->item_id there.",
          "Corrected rename_columns: userId->user_id,movieId->item_id"]),
        (["uid", "item_id", "title"], {"rename_columns": "uid->user_id,Titel->name"},
         ["rename_columns names 'Titel', which the source does not have: did you mean 'title'?"]),
        (["user_id", "item_id"], {"rename_columns": "genre->name"},
         ["rename_columns names 'genre', which the source does not have: nothing reads it: leave it out."]),
        (["user,id", "usr_id", "item_id"], {},
         ["There is no column user_id; found 'usr_id': add usr_id->user_id to rename_columns.",
          "Corrected rename_columns: usr_id->user_id"]),
        (["user,id", "item_id"], {},
         ["There is no column user_id; found 'user,id', 'item_id': "
          "name in rename_columns the one that is user_id."]),
        (["user_id", "item_id", "note"], {"rename_columns": "item_id->user_id"},
         ["There is no column item_id; found 'user_id', 'item_id', 'note': "
          "name in rename_columns the one that is item_id, like note->item_id."]),
        (["id", "name", "id", "item_id"], {"rename_columns": "id->user_id"},
         ["The source has two columns named 'id': give one of them another name there."]),
        (["userid", "item_id", "note"], {"rename_columns": "note->text"},
         ["There is no column user_id; found 'userid': add userid->user_id to rename_columns.",
          "Corrected rename_columns: note->text,userid->user_id"]),
        (["user_id", "item_id", "at"], {"timestamp_column": "aat"},
         ["There is no column 'aat'; found 'at': correct timestamp_column to at."]),
        (["user_id", "item_id", "at"], {"timestamp_column": "at", "rename_columns": "at->time"},
         ["There is no column 'at'; found 'time': correct timestamp_column to time."]),
        (["user_id", "item_id", "action"], {"event_column": "verb", "event_weights": {"view": 1}},
         ["There is no column 'verb'; found 'action': correct event_column to action."]),
        (["user_id", "item_id", "x"], {"timestamp_column": "qqq"},
         ["There is no column 'qqq'; found 'user_id', 'item_id', 'x': "
          "set timestamp_column to the right one."]),
        (["user_id", "item_id", "att"], {"timestamp_column": "at", "rename_columns": "ats->at"},
         ["rename_columns names 'ats', which the source does not have; there is no column at; "
          "found 'att': add att->at to rename_columns.",
          "Corrected rename_columns: att->at"]),
    ],
    ids=range(26),
)  # fmt: skip
def test_the_nearest_columns_are_suggested(found: list[str], entry: dict[str, Any], sentences: list[str]) -> None:
    assert column_hints(found, row_rules(entry)) == sentences


def test_no_column_is_suggested_for_two() -> None:
    advice = column_hints(["user"], row_rules({}))
    assert advice[0] == "There is no column user_id; found 'user': add user->user_id to rename_columns."
    assert "user->item_id" not in advice[1].partition("like")[0]


def test_a_column_that_holds_objects_is_not_suggested() -> None:
    known = SourceFacts(nested={"user": "objects (id)"})
    assert column_hints(["user", "userid", "item_id"], row_rules({}), known)[0] == (
        "There is no column user_id; found 'userid': add userid->user_id to rename_columns."
    )
    assert column_hints(["user", "item_id", "note"], row_rules({}), known) == [
        "There is no plain user_id: 'user' holds objects (id), and nested values cannot be renamed: "
        "the source must give plain ids."
    ]


def test_a_column_that_holds_no_numbers_is_not_offered_as_the_rating() -> None:
    known = SourceFacts(is_numeric=lambda name: name != "stars")
    assert column_hints(["user_id", "item_id", "stars"], row_rules({}), known) == []
    (sentence,) = column_hints(["user_id", "item_id", "stars", "points"], row_rules({}), known)
    assert "points->rating" in sentence


def test_many_columns_are_not_all_listed() -> None:
    assert "'c19' and 10 more:" in column_hints([f"c{n}" for n in range(30)], row_rules({}))[0]


@pytest.mark.parametrize(
    "found",
    [
        ["userId", "movieId"], ["Customer ID", "product-id"], ["uid", "isbn", "x"], ["CustomerID", "StockCode"],
        ["reviewerID", "asin", "overall", "unixReviewTime"], ["user_id", "business_id", "stars", "date"],
        ["visitorid", "itemid", "event", "timestamp"], ["User-ID", "ISBN", "Book-Rating"],
        ["userID", "artistID", "weight"], ["session_id", "article_id"], ["buyer", "listing"],
    ],
)  # fmt: skip
def test_the_corrected_text_makes_everything_right(found: list[str]) -> None:
    start = "Corrected rename_columns: "
    (text,) = (one.removeprefix(start) for one in column_hints(found, row_rules({})) if one.startswith(start))
    advice = column_hints(found, row_rules({"rename_columns": text}))
    if advice:
        assert "Without a column rating" in advice[0]
        text = advice[1].partition(", rename_columns: ")[2]
        assert column_hints(found, row_rules({"rename_columns": text})) == []
