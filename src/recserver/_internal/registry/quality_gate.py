"""The quality gate: whether a new version may replace the serving one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from recserver._internal.core.validation.values import Bool, real_number

Fraction = Annotated[
    float,
    BeforeValidator(real_number, json_schema_input_type=Annotated[float, Field(ge=0, le=1)]),
    Field(ge=0, le=1),
]

MIN_EVALUATED_USERS = 50
"""Evaluated users that a comparison with the popularity baseline needs: with fewer its result may be chance."""

NDCG_STD = 0.3
"""Approximate standard deviation of one user's NDCG; it cannot exceed half the range, 0.5."""

NEGLIGIBLE_DIFFERENCE = 10
"""A loss of at most this many interactions, users or items is ignored, whatever their share."""

COUNT_LABELS = {"n_interactions": "interactions", "n_users": "users", "n_items": "items"}


@with_config(ConfigDict(extra="forbid"))
class QualityGateInput(TypedDict, total=False):
    """Thresholds of a quality gate; those that are not given have their defaults."""

    max_drop: Fraction
    """Fraction by which NDCG@10 may be lower than that of the serving version."""
    min_share: Fraction
    """Minimum fraction of the serving version's interactions, users and items."""
    beat_popularity: Bool
    """Whether NDCG@10 must be higher than that of the popularity baseline."""


class QualityGate(BaseModel):
    """The thresholds of one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_drop: Fraction = 0.1
    """Fraction by which NDCG@10 may be lower than that of the serving version."""
    min_share: Fraction = 0.5
    """Minimum fraction of the serving version's interactions, users and items."""
    beat_popularity: Bool = True
    """Whether NDCG@10 must be higher than that of the popularity baseline."""

    def rejection_reason(self, new: Mapping[str, Any], serving: Mapping[str, Any], version: int) -> str | None:
        """Why a version with the metrics ``new`` should not replace one with the metrics ``serving``.

        Args:
            new, serving: as in ``model_metrics``; missing metrics are not checked.
            version: the number of the serving version.

        Returns:
            A clause with both figures; None if the new version may serve.
        """
        return (
            self._too_few_data(new, serving, version)
            or self._lower_ndcg(new, serving, version)
            or self._no_better_than_popular(new, serving)
        )

    def _too_few_data(self, new: Mapping[str, Any], serving: Mapping[str, Any], version: int) -> str | None:
        for key, what in COUNT_LABELS.items():
            now, before = _number(new, key), _number(serving, key)
            if now is None or before is None:
                continue
            if now < self.min_share * before and before - now > NEGLIGIBLE_DIFFERENCE:
                return (
                    f"it has {now:.0f} {what} and the serving version {version} has {before:.0f}, and less than "
                    f"{self.min_share:.0%} of them is suspicious: check that the source is complete"
                )
        return None

    def _lower_ndcg(self, new: Mapping[str, Any], serving: Mapping[str, Any], version: int) -> str | None:
        now, before = _number(new, "ndcg_at_10"), _number(serving, "ndcg_at_10")
        users, users_before = (_number(one, "evaluated_users") for one in (new, serving))
        if users == 0 and users_before is not None and users_before >= MIN_EVALUATED_USERS:
            return (
                f"it could be evaluated on 0 users and the serving version {version} on {users_before:.0f}: "
                "check that the source still has several interactions per user"
            )
        if now is None or before is None or not _same_split(new, serving):
            return None
        noise = 2 * NDCG_STD * math.sqrt(1 / max(users or 1, 1) + 1 / max(users_before or 1, 1))
        if now >= before - max(self.max_drop * before, noise):
            return None
        return (
            f"its NDCG@10 is {now:.4f} and that of the serving version {version} is {before:.4f}: check "
            "what changed in the data or the hyperparameters"
        )

    def _no_better_than_popular(self, new: Mapping[str, Any], serving: Mapping[str, Any]) -> str | None:
        now, popular = _number(new, "ndcg_at_10"), _number(new, "popularity_ndcg_at_10")
        if not self.beat_popularity or now is None or popular is None or now > popular:
            return None
        if (_number(new, "evaluated_users") or 0) < MIN_EVALUATED_USERS:
            return None
        before = _number(serving, "ndcg_at_10")
        if before is not None and now > before and _same_split(new, serving):
            return None  # better than the serving version
        return (
            f"its NDCG@10 is {now:.4f} and that of the most popular items is {popular:.4f}: check that the "
            "columns are the right ones, or try other hyperparameters"
        )


def _same_split(new: Mapping[str, Any], serving: Mapping[str, Any]) -> bool:
    """Whether both were evaluated on the same kind of split, so that their metrics are comparable."""
    return bool(new.get("split_by_time") == serving.get("split_by_time"))


def _number(metrics: Mapping[str, Any], key: str) -> float | None:
    value = metrics.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
