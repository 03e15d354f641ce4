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
    told = ((model.items.find(one.item_id), one.rating) for one in query.interactions)
    sent = {place: rating for place, rating in told if place is not None}
    # Looked for whoever asks, so that what is refused does not depend on the user.
    shares = None if query.fallback is None else _popularity(model, query.fallback)
    person = model.person(user_id, sent)
    if person is not None:
        raw, source = model.scores(person), person.source
    elif query.fallback is not None and shares is not None:
        raw, source = shares.copy(), POPULAR[query.fallback]
    else:
        raw, source = np.full(len(model.items), -np.inf, np.float32), None
    return _answer(model, query, raw, source, person=person, sent=sent)


def popular(model: Recommender, query: Query, popularity: Popularity) -> Answer:
    """What many interacted with.

    Raises:
        InvalidInput: if the query asks for what the model does not know.
    """
    return _answer(model, query, _popularity(model, popularity).copy(), POPULAR[popularity])


def _popularity(model: Recommender, popularity: Popularity) -> Scores:
    scores = model.popularity if popularity == "overall" else model.recent
    if scores is None:
        raise InvalidInput(f"popularity: {NO_TIMES}.", [FieldError(("popularity",), NO_TIMES)])
    return scores


def like_item(model: Recommender, item: int, query: Query) -> Answer:
    """The items most like one, from the most alike.

    Raises:
        InvalidInput: if the query asks for what the model does not know.
    """
    scores = to_item(model, item)
    scores[item] = -np.inf
    return _answer(model, query, scores, None)


def _answer(
    model: Recommender,
    query: Query,
    raw: Scores,
    source: Source | None,
    *,
    person: Person | None = None,
    sent: Mapping[int, float] = {},
) -> Answer:
    """The best by ``raw`` scores, which are the callee's to change.

    Args:
        sent: by the places of items, what the request told of.
    """
    scores = boosted(model, query, raw)
    if query.exclude_seen:
        if person is not None:
            scores[person.items] = -np.inf
        scores[list(sent)] = -np.inf
    left = allowed(model, query)
    if left is not None:
        scores = np.where(left, scores, -np.inf)
    kinds = quotas(model, query)
    places = pick(model, scores, query.offset, query.n, diversity=query.diversity, quotas=kinds)
    told = scores[places]
    items = list(zip(model.items.texts(places.tolist()), told.tolist(), strict=True))
    if not query.explain:
        return Answer(items, source)
    of_model = raw[places].astype(np.float64)
    return Answer(items, source, explain(model, person, places, of_model, told.astype(np.float64)))
