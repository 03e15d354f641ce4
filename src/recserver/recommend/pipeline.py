"""From a query to an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recserver.algorithms.top_n import best, reaching
from recserver.recommend.batch_top_n import FARTHEST, best_of_many, is_quicker
from recserver.recommend.explanations import Explanation, explain
from recserver.recommend.model.recommender import Recommender, Scores
from recserver.recommend.prepared_query import Prepared
from recserver.recommend.query import Query
from recserver.recommend.request_options import Popularity
from recserver.recommend.reranking import pick
from recserver.recommend.scoring import Places, Scored, scored
from recserver.recommend.similarity import to_item
from recserver.recommend.user_profile import Person, Source

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
    if asked.sent and (person := model.person(user_id, asked.sent)) is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            found = scored(model, person)
        if np.isfinite(found.rough).all():  # what is sent along counts only if all scores stay finite
            return _answer(model, asked, found, person.source, person)
    return _for_person(model, asked, model.person(user_id, {}))


def recommended_many(model: Recommender, user_ids: Sequence[str | None], asked: Prepared) -> list[Answer]:
    """As :func:`recommended` for each of many users, which is quicker together."""
    query, end = asked.query, asked.query.offset + asked.query.n
    if not asked.is_plain or end > FARTHEST:
        return [recommended(model, user_id, asked) for user_id in user_ids]
    people = [model.person(user_id, {}) for user_id in user_ids]
    known = [person for person in people if person is not None]
    if not is_quicker(model, known):
        return [_for_person(model, asked, person) for person in people]
    found = best_of_many(model, known, end, asked.left, unseen=query.exclude_seen)

    def answer(person: Person | None) -> Answer:
        own = None if person is None else next(found)
        if own is None:
            return _for_person(model, asked, person)
        return Answer(_named(model, own[0][query.offset :], own[1][query.offset :]), Source.PERSONAL)

    return [answer(person) for person in people]


def _for_person(model: Recommender, asked: Prepared, person: Person | None) -> Answer:
    """What a model has for somebody whom it knows; for anybody else, what is popular."""
    if person is not None:
        return _answer(model, asked, scored(model, person), person.source, person)
    if asked.popularity is None:
        return Answer([], None, [] if asked.query.explain else None)
    return _answer(model, asked, Scored.known(asked.popularity), POPULAR[asked.query.fallback or "overall"])


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
    return _answer(model, Prepared.of(model, query), Scored.known(scores), None)


def _answer(
    model: Recommender, asked: Prepared, found: Scored, source: Source | None, person: Person | None = None
) -> Answer:
    query, scores = asked.query, asked.boosted(found.rough)
    if query.exclude_seen:
        if person is not None:
            scores[person.items] = -np.inf
        scores[list(asked.sent)] = -np.inf
    if asked.left is not None:
        scores = np.where(asked.left, scores, -np.inf)
    places, told = _best(model, asked, found, scores)
    items = _named(model, places, told)
    if not query.explain:
        return Answer(items, source)
    of_model = found.exact(places).astype(np.float64)
    return Answer(items, source, explain(model, person, places, of_model, told.astype(np.float64)))


def _best(model: Recommender, asked: Prepared, found: Scored, scores: Scores) -> tuple[Places, Scores]:
    """The places that a query asks for, and the exact scores of their items after boosts.

    Args:
        scores: rough ones after boosts; ``-inf`` for what is left out.
    """
    query, margin = asked.query, 2 * asked.stretched(found.error)

    def ranked(count: int) -> tuple[Places, Scores]:
        places = reaching(scores, count, margin)
        told = asked.boosted(found.exact(places), places)
        order = best(told, count)  # places ascend, so equal ones stay by place
        return places[order], told[order]

    if query.offset >= len(scores):
        return np.empty(0, np.intp), np.empty(0, np.float32)
    if query.diversity or asked.quotas:
        places = pick(model, ranked, query.offset, query.n, diversity=query.diversity, quotas=asked.quotas)
        return places, asked.boosted(found.exact(places), places)
    places, told = ranked(query.offset + query.n)
    return places[query.offset :], told[query.offset :]


def _named(model: Recommender, places: Places, told: Scores) -> list[tuple[str, float]]:
    return list(zip(model.items.texts(places.tolist()), told.tolist(), strict=True))
