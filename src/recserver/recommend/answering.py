"""From a query to an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    return next(recommend_many(model, [(user_id, query)]))


def recommend_many(model: Recommender, asked: Sequence[tuple[str | None, Query]]) -> Iterator[Answer]:
    """As :func:`recommend` for many users, each with a query, in their order.

    Raises:
        InvalidInput: as soon as a query asks for what the model does not know.
    """
    for _, query in asked:  # whoever asks, so that what is refused does not depend on the user
        if query.fallback is not None:
            _popularity(model, query.fallback)
    sent = [_places(model, query) for _, query in asked]
    persons = [model.person(user_id, own) for (user_id, _), own in zip(asked, sent, strict=True)]
    scores = model.scores_of_many([person for person in persons if person is not None])
    for (user_id, query), person, own in zip(asked, persons, sent, strict=True):
        if person is None:
            yield _for_nobody(model, query, own)
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            raw = next(scores)
        if not own or np.isfinite(raw).all():
            yield _answer(model, query, raw, person.source, person=person, sent=own)
        elif known := model.person(user_id, {}):  # what is sent along counts only if all scores stay finite
            yield _answer(model, query, model.scores(known), known.source, person=known, sent=own)
        else:
            yield _for_nobody(model, query, own)


def _for_nobody(model: Recommender, query: Query, sent: Mapping[int, float]) -> Answer:
    """What is popular, or nothing."""
    if query.fallback is None:
        return _answer(model, query, np.full(len(model.items), -np.inf, np.float32), None, sent=sent)
    raw = _popularity(model, query.fallback).copy()
    return _answer(model, query, raw, POPULAR[query.fallback], sent=sent)


def _places(model: Recommender, query: Query) -> dict[int, float]:
    """Ratings that the request tells of, by the places of items."""
    told = ((model.items.find(one.item_id), one.rating) for one in query.interactions)
    return {place: rating for place, rating in told if place is not None}


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
