"""From a query to an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recserver.recommend.explaining import Explanation, explain
from recserver.recommend.likeness import to_item
from recserver.recommend.person import Person, Source
from recserver.recommend.picking import pick
from recserver.recommend.query import Query
from recserver.recommend.recommender import Recommender, Scores
from recserver.recommend.wanted import Prepared
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


def items_of(answer: Answer) -> list[dict[str, Any]]:
    """The items of an answer, as they are told."""
    items: list[dict[str, Any]] = [{"item_id": item, "score": score} for item, score in answer.items]
    for item, why in zip(items, answer.explanations or (), strict=False):
        item["because"] = [{"item_id": own, "share": share} for own, share in why.shares]
        item["others"] = why.others
    return items


def recommend(model: Recommender, user_id: str | None, query: Query) -> Answer:
    """What a model has for a user; for somebody of whom nothing is known, what is popular.

    Args:
        user_id: None for somebody without one.

    Raises:
        InvalidInput: if the query asks for what the model does not know.
    """
    return recommended(model, user_id, Prepared.of(model, query))


def recommended(model: Recommender, user_id: str | None, asked: Prepared) -> Answer:
    """As :func:`recommend`, with a query that was prepared for this model, for many users perhaps."""
    person = model.person(user_id, asked.sent)
    if person is not None and asked.sent:
        with np.errstate(over="ignore", invalid="ignore"):
            scores = model.scores(person)
        if np.isfinite(scores).all():
            return _answer(model, asked, scores, person.source, person)
        person = model.person(user_id, {})  # what is sent along counts only if all scores stay finite
    if person is not None:
        return _answer(model, asked, model.scores(person), person.source, person)
    if asked.popularity is None:
        return _answer(model, asked, np.full(len(model.items), -np.inf, np.float32), None)
    return _answer(model, asked, asked.popularity.copy(), POPULAR[asked.query.fallback or "overall"])


def recommended_many(model: Recommender, user_ids: Sequence[str], asked: Prepared) -> list[Answer]:
    """What :func:`recommended` says to each of these users, in their order."""
    return [recommended(model, user_id, asked) for user_id in user_ids]


def popular(model: Recommender, query: Query, popularity: Popularity) -> Answer:
    """What many interacted with.

    Raises:
        InvalidInput: if the query asks for what the model does not know.
    """
    return recommend(model, None, replace(query, fallback=popularity, interactions=()))


def like_item(model: Recommender, item: int, query: Query) -> Answer:
    """The items most like one, from the most alike.

    Raises:
        InvalidInput: if the query asks for what the model does not know.
    """
    scores = to_item(model, item)
    scores[item] = -np.inf
    return _answer(model, Prepared.of(model, query), scores, None)


def _answer(
    model: Recommender, asked: Prepared, raw: Scores, source: Source | None, person: Person | None = None
) -> Answer:
    """The best by ``raw`` scores, which are the callee's to change."""
    query, scores = asked.query, asked.boosted(raw)
    if query.exclude_seen:
        if person is not None:
            scores[person.items] = -np.inf
        scores[list(asked.sent)] = -np.inf
    if asked.left is not None:
        scores = np.where(asked.left, scores, -np.inf)
    places = pick(model, scores, query.offset, query.n, diversity=query.diversity, quotas=asked.quotas)
    told = scores[places]
    items = list(zip(model.items.texts(places.tolist()), told.tolist(), strict=True))
    if not query.explain:
        return Answer(items, source)
    of_model = raw[places].astype(np.float64)
    return Answer(items, source, explain(model, person, places, of_model, told.astype(np.float64)))
