"""From a query to recommended items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recserver._internal.algorithms.top_n import top_candidates, top_n
from recserver._internal.recommend.batch_top_n import MAX_BATCH_DEPTH, is_faster_batched, top_items_batch
from recserver._internal.recommend.explanations import Explanation, explain
from recserver._internal.recommend.model.recommender import Recommender, Scores
from recserver._internal.recommend.prepared_query import PreparedQuery
from recserver._internal.recommend.query import Query
from recserver._internal.recommend.request_options import Popularity
from recserver._internal.recommend.reranking import rerank
from recserver._internal.recommend.scoring import Indices, ItemScores, score_items
from recserver._internal.recommend.similarity import item_similarities
from recserver._internal.recommend.user_profile import UserProfile
from recserver._internal.results.recommendations import Reason, ScoredItem, Source

FALLBACK_SOURCES: Mapping[Popularity, Source] = {"overall": Source.POPULAR, "recent": Source.RECENT}

NO_FOLD_IN_WARNING = (
    "This version cannot use the interactions of a request: they are only excluded from the items. "
    "Train the model again, with an algorithm that supports fold-in."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Items, best first, with their scores.

    Attributes:
        source: None for similar items, and where there are no items for a cold-start user.
        explanations: one for each item; None unless requested.
    """

    items: list[tuple[str, float]]
    source: Source | None
    explanations: list[Explanation] | None = None


def scored_items(answer: Answer) -> list[ScoredItem]:
    """The items of an answer, as results have them."""
    if answer.explanations is None:
        return [ScoredItem(item_id=item, score=score) for item, score in answer.items]
    return [
        ScoredItem(
            item_id=item,
            score=score,
            because=[Reason(item_id=item_id, share=share) for item_id, share in explanation.shares],
            others=explanation.others,
        )
        for (item, score), explanation in zip(answer.items, answer.explanations, strict=True)
    ]


def answer_warnings(model: Recommender, query: Query) -> list[str]:
    """What the result of a query should warn of."""
    return [NO_FOLD_IN_WARNING] if query.interactions and model.fold_in is None else []


def recommend(model: Recommender, user_id: str | None, query: Query) -> Answer:
    """The best items for a user; popular items for a cold-start user.

    Args:
        user_id: None for a session without a user id.

    Raises:
        InvalidInput: if the model cannot answer the query.
    """
    return recommend_prepared(model, user_id, PreparedQuery.for_model(model, query))


def recommend_prepared(model: Recommender, user_id: str | None, prepared: PreparedQuery) -> Answer:
    """As :func:`recommend`, for a query that is resolved already."""
    if prepared.extra_ratings and (profile := model.user_profile(user_id, prepared.extra_ratings)) is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            scores = score_items(model, profile)
        if np.isfinite(scores.approximate).all():  # else the request's interactions are ignored
            return _select(model, prepared, scores, profile.source, profile)
    return _recommend_profile(model, prepared, model.user_profile(user_id, {}))


def recommend_many(model: Recommender, user_ids: Sequence[str | None], prepared: PreparedQuery) -> list[Answer]:
    """As :func:`recommend_prepared` for each user, with one matrix product where that is faster."""
    query, end = prepared.query, prepared.query.offset + prepared.query.n
    if not prepared.is_batchable or end > MAX_BATCH_DEPTH:
        return [recommend_prepared(model, user_id, prepared) for user_id in user_ids]
    profiles = [model.user_profile(user_id, {}) for user_id in user_ids]
    known = [profile for profile in profiles if profile is not None]
    if not is_faster_batched(model, known):
        return [_recommend_profile(model, prepared, profile) for profile in profiles]
    top_items = top_items_batch(model, known, end, prepared.allowed, exclude_seen=query.exclude_seen)

    def answer(profile: UserProfile | None) -> Answer:
        best = None if profile is None else next(top_items)
        if best is None:
            return _recommend_profile(model, prepared, profile)
        items = _with_ids(model, best[0][query.offset :], best[1][query.offset :])
        return Answer(items, Source.PERSONAL)

    return [answer(profile) for profile in profiles]


def recommend_popular(model: Recommender, query: Query, popularity: Popularity) -> Answer:
    """The items that most users interacted with, overall or recently.

    Raises:
        InvalidInput: if the model cannot answer the query.
    """
    return recommend(model, None, replace(query, fallback=popularity, interactions=()))


def recommend_similar(model: Recommender, item: int, query: Query) -> Answer:
    """The items most similar to one, best first.

    Args:
        item: its index.

    Raises:
        InvalidInput: if the model cannot answer the query.
    """
    scores = item_similarities(model, item)
    scores[item] = -np.inf
    return _select(model, PreparedQuery.for_model(model, query), ItemScores.from_exact(scores), None)


def _recommend_profile(model: Recommender, prepared: PreparedQuery, profile: UserProfile | None) -> Answer:
    """The answer for a user without extra interactions; None is a cold-start user."""
    if profile is not None:
        return _select(model, prepared, score_items(model, profile), profile.source, profile)
    if prepared.popularity is None:
        return Answer([], None, [] if prepared.query.explain else None)
    source = FALLBACK_SOURCES[prepared.query.fallback or "overall"]
    return _select(model, prepared, ItemScores.from_exact(prepared.popularity), source)


def _select(
    model: Recommender,
    prepared: PreparedQuery,
    item_scores: ItemScores,
    source: Source | None,
    profile: UserProfile | None = None,
) -> Answer:
    """Boost, filter, select and explain."""
    query, scores = prepared.query, prepared.apply_boosts(item_scores.approximate)
    if query.exclude_seen:
        if profile is not None:
            scores[profile.items] = -np.inf
        scores[list(prepared.extra_ratings)] = -np.inf
    if prepared.allowed is not None:
        scores = np.where(prepared.allowed, scores, -np.inf)
    indices, final_scores = _top_items(model, prepared, item_scores, scores)
    items = _with_ids(model, indices, final_scores)
    if not query.explain:
        return Answer(items, source)
    unboosted = item_scores.exact(indices).astype(np.float64)
    return Answer(items, source, explain(model, profile, indices, unboosted, final_scores.astype(np.float64)))


def _top_items(
    model: Recommender, prepared: PreparedQuery, item_scores: ItemScores, scores: Scores
) -> tuple[Indices, Scores]:
    """The indices of a query's items, and their exact scores after boosts.

    Args:
        scores: approximate, after boosts; ``-inf`` for items that are left out.
    """
    query, margin = prepared.query, 2 * prepared.boosted_error(item_scores.error)

    def best(count: int) -> tuple[Indices, Scores]:
        indices = top_candidates(scores, count, margin)
        exact = prepared.apply_boosts(item_scores.exact(indices), indices)
        order = top_n(exact, count)  # the indices ascend, so ties are in the order of the items
        return indices[order], exact[order]

    if query.offset >= len(scores):
        return np.empty(0, np.intp), np.empty(0, np.float32)
    if query.diversity or prepared.quotas:
        indices = rerank(model, best, query.offset, query.n, diversity=query.diversity, quotas=prepared.quotas)
        return indices, prepared.apply_boosts(item_scores.exact(indices), indices)
    indices, exact = best(query.offset + query.n)
    return indices[query.offset :], exact[query.offset :]


def _with_ids(model: Recommender, indices: Indices, scores: Scores) -> list[tuple[str, float]]:
    return list(zip(model.items.ids_at(indices.tolist()), scores.tolist(), strict=True))
