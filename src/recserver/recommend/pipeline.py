"""From a query to an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recserver.algorithms.top_n import top_candidates, top_n
from recserver.recommend.batch_top_n import MAX_BATCH_DEPTH, is_faster_batched, top_items_batch
from recserver.recommend.explanations import Explanation, explain
from recserver.recommend.model.recommender import Recommender, Scores
from recserver.recommend.prepared_query import PreparedQuery
from recserver.recommend.query import Query
from recserver.recommend.request_options import Popularity
from recserver.recommend.reranking import rerank
from recserver.recommend.scoring import Indices, ItemScores, score_items
from recserver.recommend.similarity import item_similarities
from recserver.recommend.user_profile import Source, UserProfile

FALLBACK_SOURCES: Mapping[Popularity, Source] = {"overall": Source.POPULAR, "recent": Source.RECENT}


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Items, best first, with their scores.

    Attributes:
        source: None where there is nothing to say.
        explanations: one for each item; None if nobody asked for them.
    """

    items: list[tuple[str, float]]
    source: Source | None
    explanations: list[Explanation] | None = None


def items_to_json(recommendations: Recommendations) -> list[dict[str, Any]]:
    """The items of an answer, as they are told."""
    items: list[dict[str, Any]] = [{"item_id": item, "score": score} for item, score in recommendations.items]
    for item, why in zip(items, recommendations.explanations or (), strict=False):
        item["because"] = [{"item_id": own, "share": share} for own, share in why.shares]
        item["others"] = why.others
    return items


def recommend(model: Recommender, user_id: str | None, query: Query) -> Recommendations:
    """What a model has for a user; for somebody of whom nothing is known, what is popular.

    Args:
        user_id: None for somebody without one.

    Raises:
        InvalidInput: if the query asks for what the model does not know.
    """
    return recommend_prepared(model, user_id, PreparedQuery.for_model(model, query))


def recommend_prepared(model: Recommender, user_id: str | None, prepared: PreparedQuery) -> Recommendations:
    """As :func:`recommend`, with a query that was prepared for this model, for many users perhaps."""
    if prepared.extra_ratings and (person := model.user_profile(user_id, prepared.extra_ratings)) is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            found = score_items(model, person)
        if np.isfinite(found.approximate).all():  # what is sent along counts only if all scores stay finite
            return _recommendations(model, prepared, found, person.source, person)
    return _recommend_profile(model, prepared, model.user_profile(user_id, {}))


def recommend_many(
    model: Recommender, user_ids: Sequence[str | None], prepared: PreparedQuery
) -> list[Recommendations]:
    """As :func:`recommended` for each of many users, which is quicker together."""
    query, end = prepared.query, prepared.query.offset + prepared.query.n
    if not prepared.is_batchable or end > MAX_BATCH_DEPTH:
        return [recommend_prepared(model, user_id, prepared) for user_id in user_ids]
    people = [model.user_profile(user_id, {}) for user_id in user_ids]
    known = [person for person in people if person is not None]
    if not is_faster_batched(model, known):
        return [_recommend_profile(model, prepared, person) for person in people]
    found = top_items_batch(model, known, end, prepared.allowed, exclude_seen=query.exclude_seen)

    def answer(person: UserProfile | None) -> Recommendations:
        own = None if person is None else next(found)
        if own is None:
            return _recommend_profile(model, prepared, person)
        return Recommendations(_with_ids(model, own[0][query.offset :], own[1][query.offset :]), Source.PERSONAL)

    return [answer(person) for person in people]


def _recommend_profile(
    model: Recommender, prepared: PreparedQuery, profile: UserProfile | None
) -> Recommendations:
    """What a model has for somebody whom it knows; for anybody else, what is popular."""
    if profile is not None:
        return _recommendations(model, prepared, score_items(model, profile), profile.source, profile)
    if prepared.popularity is None:
        return Recommendations([], None, [] if prepared.query.explain else None)
    return _recommendations(
        model,
        prepared,
        ItemScores.from_exact(prepared.popularity),
        FALLBACK_SOURCES[prepared.query.fallback or "overall"],
    )


def recommend_popular(model: Recommender, query: Query, popularity: Popularity) -> Recommendations:
    """What many interacted with.

    Raises:
        InvalidInput: if the query asks for what the model does not know.
    """
    return recommend(model, None, replace(query, fallback=popularity, interactions=()))


def recommend_similar(model: Recommender, item: int, query: Query) -> Recommendations:
    """The items most like one, from the most alike.

    Raises:
        InvalidInput: if the query asks for what the model does not know.
    """
    scores = item_similarities(model, item)
    scores[item] = -np.inf
    return _recommendations(model, PreparedQuery.for_model(model, query), ItemScores.from_exact(scores), None)


def _recommendations(
    model: Recommender,
    prepared: PreparedQuery,
    item_scores: ItemScores,
    source: Source | None,
    profile: UserProfile | None = None,
) -> Recommendations:
    query, scores = prepared.query, prepared.apply_boosts(item_scores.approximate)
    if query.exclude_seen:
        if profile is not None:
            scores[profile.items] = -np.inf
        scores[list(prepared.extra_ratings)] = -np.inf
    if prepared.allowed is not None:
        scores = np.where(prepared.allowed, scores, -np.inf)
    places, told = _top_items(model, prepared, item_scores, scores)
    items = _with_ids(model, places, told)
    if not query.explain:
        return Recommendations(items, source)
    of_model = item_scores.exact(places).astype(np.float64)
    return Recommendations(items, source, explain(model, profile, places, of_model, told.astype(np.float64)))


def _top_items(
    model: Recommender, prepared: PreparedQuery, item_scores: ItemScores, scores: Scores
) -> tuple[Indices, Scores]:
    """The places that a query asks for, and the exact scores of their items after boosts.

    Args:
        scores: rough ones after boosts; ``-inf`` for what is left out.
    """
    query, margin = prepared.query, 2 * prepared.boosted_error(item_scores.error)

    def ranked(count: int) -> tuple[Indices, Scores]:
        places = top_candidates(scores, count, margin)
        told = prepared.apply_boosts(item_scores.exact(places), places)
        order = top_n(told, count)  # places ascend, so equal ones stay by place
        return places[order], told[order]

    if query.offset >= len(scores):
        return np.empty(0, np.intp), np.empty(0, np.float32)
    if query.diversity or prepared.quotas:
        places = rerank(model, ranked, query.offset, query.n, diversity=query.diversity, quotas=prepared.quotas)
        return places, prepared.apply_boosts(item_scores.exact(places), places)
    places, told = ranked(query.offset + query.n)
    return places[query.offset :], told[query.offset :]


def _with_ids(model: Recommender, indices: Indices, final_scores: Scores) -> list[tuple[str, float]]:
    return list(zip(model.items.ids_at(indices.tolist()), final_scores.tolist(), strict=True))
