"""Results that show files have typed attributes, and show what the files hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recserver import DataChefInfo
from recserver._internal.results.base import encode_json


@pytest.mark.parametrize("value", ["60", [1], {"a": 1}, None])
def test_a_wrong_value_is_shown_and_has_the_default_as_attribute(value: Any) -> None:
    shown = DataChefInfo.from_dict({"type": "csv", "rename_columns": value, "warnings": value, "own": 1})
    assert shown.rename_columns == (value if isinstance(value, str) else "")
    assert shown.warnings == []
    assert shown["rename_columns"] == value and shown["own"] == 1 and "error" not in shown
    assert json.loads(encode_json({"c": shown}))["c"] == dict(shown)


def test_keys_that_yaml_does_not_read_as_text() -> None:
    shown = DataChefInfo.from_dict({"type": "csv", "columns": {None: "a", True: "b", 7: "c"}})
    assert json.loads(encode_json(shown))["columns"] == {"null": "a", "true": "b", "7": "c"}


def test_a_changed_field_is_changed_everywhere() -> None:
    shown = DataChefInfo.from_dict({"type": "csv", "path": "x"}).replace(error="It is not there.")
    assert (shown.error, shown["error"], shown.to_dict()["error"]) == ("It is not there.",) * 3
    assert shown.with_warnings(["One."]).with_warnings(["Two."]).warnings == ["One.", "Two."]
