"""From a query to an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recserver.errors import FieldError, InvalidInput
from recserver.recommend.explaining import Explanation, explain
from recserver.recommend.likeness import to_item
from recserver.recommend.person import Person, Source
from recserver.recommend.picking import pick
from recserver.recommend.query import Query
from recserver.recommend.recommender import Recommender, Scores
from recserver.recommend.wanted import allowed, boosted, quotas
from recserver.specs.wishes import Popularity

POPULAR: Mapping[Popularity, Source] = {"overall": Source.POPULAR, "recent": Source.RECENT}


@dataclass(frozen=True, slots=True)
class Answer:
    """Items, best first, with their scores.

    Attributes:
        source: None where there is nothing to say.
        explanations: one for each item; None if nobody asked for them.
    """

    items: list[tuple[str, float]]
    source: Source | None
    explanations: list[Explanation] | None = None


NO_TIMES = "needs times, and this model has none: name the column that holds them in its data chef, and train"


def recommend(model: Recommender, user_id: str | None, query: Query) -> Answer:
    """What a model has for a user; for somebody of whom nothing is known, what is popular.

    Args:
        user_id: None for somebody without one.

    Raises:
        InvalidInput: if the query asks for what the model does not know.
    """
    sent = {one.item_id: one.rating for one in query.interactions}
    person = model.person(user_id, sent)
    if person is not None:
        return _answer(model, query, person, model.scores(person), person.source)
    if query.fallback is not None:
        return popular(model, query, query.fallback)
    return _answer(model, query, None, np.full(len(model.items), -np.inf, np.float32), None)


def popular(model: Recommender, query: Query, popularity: Popularity) -> Answer:
    """What many interacted with.

    Raises:
        InvalidInput: if the query asks for what the model does not know.
    """
    scores = model.popularity if popularity == "overall" else model.recent
    if scores is None:
        raise InvalidInput(f"popularity: {NO_TIMES}.", [FieldError(("popularity",), NO_TIMES)])
    return _answer(model, query, None, scores.copy(), POPULAR[popularity])


def like_item(model: Recommender, item: int, query: Query) -> Answer:
    """The items most like one, from the most alike.

    Raises:
        InvalidInput: if the query asks for what the model does not know.
    """
    scores = to_item(model, item)
    scores[item] = -np.inf
    return _answer(model, query, None, scores, None)


def _answer(model: Recommender, query: Query, person: Person | None, raw: Scores, source: Source | None) -> Answer:
    """The best by scores, which are the callee's to change."""
    scores = boosted(model, query, raw)
    if query.exclude_seen:
        if person is not None:
            scores[person.items] = -np.inf
        scores[model.places(one.item_id for one in query.interactions)] = -np.inf
    left = allowed(model, query)
    if left is not None:
        scores = np.where(left, scores, -np.inf)
    kinds = quotas(model, query)
    places = pick(model, scores, query.offset, query.n, diversity=query.diversity, quotas=kinds)
    told = scores[places]
    items = [(model.items[place], score) for place, score in zip(places.tolist(), told.tolist(), strict=True)]
    if not query.explain:
        return Answer(items, source)
    of_model = raw[places].astype(np.float64)
    return Answer(items, source, explain(model, person, places, of_model, told.astype(np.float64)))
