"""When a new version may not take the place of the one that serves."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from recserver._internal.registry.quality_gate import QualityGate

GOOD = {"n_interactions": 10_000, "n_users": 1000, "n_items": 500, "ndcg_at_10": 0.4, "evaluated_users": 1000,
        "popularity_ndcg_at_10": 0.2}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "gate", "said"),
    [
        ({}, {}, None),
        ({"n_interactions": 5000, "n_users": 500, "n_items": 250}, {}, None),
        ({"n_interactions": 4999}, {}, "4999 interactions and the serving version 7 has 10000"),
        ({"n_users": 499}, {}, "499 users and the serving version 7 has 1000"),
        ({"n_items": 249}, {}, "249 items and the serving version 7 has 500"),
        ({"n_items": 249}, {"min_share": 0.1}, None),
        ({"n_items": 0}, {"min_share": 0}, None),
        ({"ndcg_at_10": 0.361}, {}, None),
        ({"ndcg_at_10": 0.359}, {}, "NDCG@10 is 0.3590 and that of the serving version 7 is 0.4000"),
        ({"ndcg_at_10": 0.359}, {"max_drop": 0.2}, None),
        ({"ndcg_at_10": 0.39}, {"max_drop": 0}, None),  # within what chance does with 1000 users
        ({"ndcg_at_10": 0.37}, {"max_drop": 0}, "NDCG@10 is 0.3700"),
        ({"ndcg_at_10": 0.33, "evaluated_users": 60}, {}, None),
        ({"ndcg_at_10": 0.30, "evaluated_users": 60}, {}, "NDCG@10 is 0.3000"),
        ({"ndcg_at_10": 0.2, "split_by_time": True, "popularity_ndcg_at_10": 0.1}, {}, None),  # another measure
        ({"ndcg_at_10": None, "evaluated_users": 0}, {}, "on 0 users and the serving version 7 on 1000"),
        ({"ndcg_at_10": 0.41, "popularity_ndcg_at_10": 0.5}, {}, None),  # better than what serves, if not yet good
        ({"popularity_ndcg_at_10": 0.4}, {}, "NDCG@10 is 0.4000 and that of the most popular items is 0.4000"),
        ({"popularity_ndcg_at_10": 0.4}, {"beat_popularity": False}, None),
        ({"popularity_ndcg_at_10": 0.4, "evaluated_users": 49}, {}, None),
        ({"ndcg_at_10": None}, {}, None),
        ({"ndcg_at_10": math.nan}, {}, None),
        ({"ndcg_at_10": True, "n_users": "many"}, {}, None),
    ],
)
def test_what_is_refused_is_refused_with_both_figures(
    changes: dict[str, Any], gate: dict[str, Any], said: str | None
) -> None:
    objection = QualityGate(**gate).rejection_reason(GOOD | changes, GOOD, 7)
    assert objection is None if said is None else said in str(objection)


def test_small_losses_of_data_are_ignored() -> None:
    """Where ten more or less are half of everything, less is no sign of a broken source."""
    assert QualityGate().rejection_reason({"n_interactions": 3}, {"n_interactions": 13}, 1) is None
    assert QualityGate().rejection_reason({"n_interactions": 3}, {"n_interactions": 14}, 1) is not None


@pytest.mark.parametrize("serving", [{}, {"ndcg_at_10": None}, {"ndcg_at_10": "0.9", "n_users": []}])
def test_what_was_never_measured_is_not_held_against_it(serving: dict[str, Any]) -> None:
    assert QualityGate().rejection_reason(GOOD, serving, 1) is None


@pytest.mark.parametrize("wrong", [{"max_drop": -0.1}, {"min_share": 1.1}, {"min_share": "0.5"}, {"other": 1}])
def test_thresholds_are_shares(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        QualityGate.model_validate(wrong)
