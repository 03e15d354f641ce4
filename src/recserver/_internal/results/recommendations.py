"""Results of the operations that recommend."""

from __future__ import annotations

from enum import StrEnum

from recserver._internal.results.base import Result, ResultObject


class Source(StrEnum):
    """Where recommendations come from."""

    PERSONAL = "personal"
    """The user was in the training."""
    FOLD_IN = "fold_in"
    """The user was not, but the request has interactions."""
    POPULAR = "popular"
    """A cold-start user: the items that most users interacted with."""
    RECENT = "recent"
    """A cold-start user: the items that most users interacted with recently."""


class Reason(ResultObject, frozen=True, kw_only=True):
    """One of the user's interactions that an item is recommended for."""

    item_id: str
    share: float
    """What the interaction adds to the score."""


class ScoredItem(ResultObject, frozen=True, kw_only=True):
    """An item of a list. ``because`` and ``others`` are present if ``explain`` was requested."""

    item_id: str
    score: float
    """Comparable within one model version. It has no unit, and may be negative."""
    because: list[Reason] | None = None
    """Up to ten interactions of the user, the largest share first. Shares and ``others`` add up to the score."""
    others: float | None = None
    """What all other interactions add to the score."""


class ItemList(Result, frozen=True, kw_only=True):
    """Items, best first."""

    model_id: str
    items: list[ScoredItem]
    """Best first, equal scores in the order of the ids."""
    n_recommendations: int
    """Number of items."""
    model_version: int
    """The version of the model that answered."""


class SimilarItems(ItemList, frozen=True, kw_only=True):
    """The items that are most similar to an item."""

    item_id: str


class Recommendations(ItemList, frozen=True, kw_only=True):
    """Recommended items."""

    source: Source | None
    """Where the items come from; None if there are none, for a cold-start user."""


class RankedItems(Recommendations, frozen=True, kw_only=True):
    """Given items, best first for a user."""

    user_id: str | None
    unknown_item_ids: list[str]
    """Given items that the model does not know. They are not ranked."""


class UserRecommendations(Result, frozen=True, kw_only=True):
    """The best items for a user."""

    model_id: str
    user_id: str
    predictions: dict[str, list[ScoredItem]]
    """The user's id, and the items: best first, equal scores in the order of the ids."""
    datetime: str
    """When the response was computed: UTC, such as ``2026-01-02T03:04:05.678Z``."""
    status: str
    """Always ``completed``."""
    n_recommendations: int
    """Number of items."""
    source: Source | None
    """Where the items come from; None if there are none, for a cold-start user."""
    model_version: int
    """The version of the model that answered."""

    @property
    def items(self) -> list[ScoredItem]:
        """The items, best first."""
        return self.predictions[self.user_id]


class BatchRecommendations(Result, frozen=True, kw_only=True):
    """The best items for one user of a batch: one line of the response."""

    user_id: str
    items: list[ScoredItem]
    """Best first, equal scores in the order of the ids."""
    n_recommendations: int
    """Number of items."""
    source: Source | None
    """Where the items come from; None if there are none, for a cold-start user."""
    model_version: int
    """The version of the model that answered, the same for all users of a batch."""


class SimilarUser(ResultObject, frozen=True, kw_only=True):
    """A user who is similar to another one."""

    user_id: str
    score: float
    """At most 1, which is the same taste."""


class ModelSize(Result, frozen=True, kw_only=True):
    """The model that answered, and its size."""

    model_id: str
    model_version: int
    """The version of the model that answered."""
    n_users: int
    """Users of the model."""
    n_items: int
    """Items of the model."""


class SimilarUsers(ModelSize, frozen=True, kw_only=True):
    """The users who are most similar to a user."""

    user_id: str
    users: list[SimilarUser]
    """The most similar first."""


class KnownUser(ResultObject, frozen=True, kw_only=True):
    """A user of the training data."""

    user_id: str
    interactions: int
    """Number of distinct items that the user interacted with."""


class UserPage(ModelSize, frozen=True, kw_only=True):
    """A page of the users of a model, in the order of their ids."""

    data: list[KnownUser]
    next: str | None
    """``after`` of the next page; None on the last one."""


class KnownItem(ResultObject, frozen=True, kw_only=True):
    """An item of the training data."""

    item_id: str
    interactions: int
    """Number of distinct users who interacted with it."""
    attributes: dict[str, str | float | list[str]]
    """Its attributes by name."""


class ItemPage(ModelSize, frozen=True, kw_only=True):
    """A page of the items of a model, in the order of their ids."""

    data: list[KnownItem]
    next: str | None
    """``after`` of the next page; None on the last one."""
