"""The best items of many users at once by matrix products: exactly those of each user alone, in less time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.top_n import nth_lower_bound
from recserver._internal.recommend.model.recommender import Recommender, Scores
from recserver._internal.recommend.scoring import Indices, error_bound, exact_scores, in_blocks
from recserver._internal.recommend.user_profile import FLOAT32_MAX, UserProfile

MIN_BATCH = 6
"""Users for whom a matrix product may be faster than one product each."""

CACHED_FACTORS = 2**20
"""Item factors that fit in a processor's cache; reading more costs several times as much per factor."""

MAX_BATCH_DEPTH = 256
"""Items of each user; for more, batching is not faster."""

BLOCK_SCORES = 2**17
"""Scores per block, approximately: they stay in a core's cache."""

MIN_BLOCK_ITEMS = 2**13
"""Items per block at least: for many users, shorter blocks are not faster."""

MAX_NEIGHBOR_SCORES = 2**24
"""Neighbor scores in memory at a time, 64 MiB."""

TIES_PER_ITEM, MAX_TIES = 64, 2**12
"""Limits on the candidates of a user, for each of the n items and in total. Users with more, as where items share
factors, are answered alone."""

TopItems = tuple[Indices, Scores]
PairIndices = NDArray[np.intp]
Mask = NDArray[np.bool_]


def is_faster_batched(model: Recommender, profiles: Sequence[UserProfile]) -> bool:
    """Whether one matrix product finds the best items of these users faster than one product each.

    It reads and copies all item factors once; single products read only rows whose factor is not zero.
    """
    if len(profiles) < MIN_BATCH or not len(model.item_factors):
        return False
    active = sum(int(np.count_nonzero(profile.factors)) for profile in profiles)
    return active >= len(model.item_factors) * (1 if model.item_factors.size <= CACHED_FACTORS else 4)


def top_items_batch(
    model: Recommender, profiles: Sequence[UserProfile], n: int, allowed: Mask | None, *, exclude_seen: bool
) -> Iterator[TopItems | None]:
    """The indices and exact scores of each user's ``n`` best items, best first, ties in the order of the items.

    None for a user with too many items of nearly the same score, who has to be answered alone.

    Args:
        n: at most :data:`MAX_BATCH_DEPTH`.
        allowed: the items that may be returned, shape (items,); None for all.
        exclude_seen: whether to leave out the items that each user interacted with.
    """
    step = len(profiles)
    if model.neighbors is not None:
        step = max(MIN_BATCH, MAX_NEIGHBOR_SCORES // max(1, len(model.items)))
    for start in range(0, len(profiles), step):
        batch = profiles[start : start + step]
        seen = _seen_pairs(batch) if exclude_seen else None
        yield from _BatchSearch(model, batch, n, allowed, seen).top_items()


def _seen_pairs(profiles: Sequence[UserProfile]) -> tuple[PairIndices, PairIndices]:
    """The interactions as user numbers and item indices, in the order of the items."""
    users = np.repeat(np.arange(len(profiles)), [len(profile.items) for profile in profiles])
    items = np.concatenate([profile.items for profile in profiles])
    order = np.argsort(items, kind="stable")
    return users[order], items[order].astype(np.intp)


@dataclass(frozen=True, slots=True)
class _BatchSearch:
    model: Recommender
    profiles: Sequence[UserProfile]
    n: int
    allowed: Mask | None
    seen: tuple[PairIndices, PairIndices] | None

    def top_items(self) -> Iterator[TopItems | None]:
        factors, neighbor_scores = (
            np.stack([profile.factors for profile in self.profiles]),
            self._neighbor_scores(),
        )
        users, items, crowded = self._candidates(factors, neighbor_scores)

        def block(part: slice) -> Scores:
            return exact_scores(
                factors.T.take(users[part], axis=1),
                self.model.item_factors.take(items[part], axis=1),
                None if neighbor_scores is None else neighbor_scores[users[part], items[part]],
            )

        exact = in_blocks(len(users), block)
        order = np.lexsort((items, -exact, users))
        items, exact = items[order], exact[order]
        ends = np.cumsum(np.bincount(users, minlength=len(self.profiles))).tolist()
        for start, end, is_crowded in zip([0, *ends], ends, crowded.tolist(), strict=False):
            best = slice(start, min(end, start + self.n))
            yield None if is_crowded else (items[best], exact[best])

    def _neighbor_scores(self) -> Scores | None:
        """The scores by neighbors, shape (users, items)."""
        if self.model.neighbors is None:
            return None
        scores = np.zeros((len(self.profiles), len(self.model.items)), np.float32)
        for row, profile in zip(scores, self.profiles, strict=True):
            self.model.neighbors.add_scores(row, profile.items, profile.confidences)
        return scores

    def _candidates(
        self, factors: NDArray[np.float32], neighbor_scores: Scores | None
    ) -> tuple[PairIndices, PairIndices, Mask]:
        """Pairs of users and items that include the best of each and few others; and which users have too many.

        The nth best of a user's scores so far is a lower bound for the nth best of all; scores below it are
        dropped. It rises from block to block.
        """
        errors = [
            error_bound(self.model, row, None if neighbor_scores is None else neighbor_scores[number])
            for number, row in enumerate(factors)
        ]
        margins, max_count = 2 * np.array(errors, np.float32), min(MAX_TIES, TIES_PER_ITEM * self.n)
        tops, counts = np.full((len(factors), self.n), -np.inf, np.float32), np.zeros(len(factors), np.intp)
        found: list[tuple[PairIndices, PairIndices, Scores]] = []
        for start, scores in self._blocks(factors, neighbor_scores):
            nth = tops[:, 0] if found else nth_lower_bound(scores, self.n)
            floors = np.where(counts > max_count, np.inf, np.fmax(nth - margins, -FLOAT32_MAX)).astype(np.float32)
            users, items = np.divmod(np.flatnonzero(scores >= floors[:, np.newaxis]), scores.shape[1])
            reached = scores[users, items]
            found.append((users, items + start, reached))
            new_counts = np.bincount(users, minlength=len(factors))
            tops, counts = _merge_top(tops, users, reached, new_counts), counts + new_counts
        users, items, reached = (np.concatenate(parts) for parts in zip(*found, strict=True))
        crowded = counts > max_count
        last = (reached >= np.fmax(tops[:, 0] - margins, -FLOAT32_MAX)[users]) & ~crowded[users]
        return users[last], items[last], crowded

    def _blocks(
        self, factors: NDArray[np.float32], neighbor_scores: Scores | None
    ) -> Iterator[tuple[int, Scores]]:
        """The index of each block's first item, and approximate scores, shape (users, items of the block), valid
        until the next block."""
        items = len(self.model.items)
        size = min(items, max(MIN_BLOCK_ITEMS, BLOCK_SCORES // len(factors)))
        bounds = [0, *range(size, items, size), items] if items else [0, 0]
        buffer = np.empty((len(factors), size), np.float32)
        for start, end in pairwise(bounds):
            scores = np.matmul(factors, self.model.item_factors[:, start:end], out=buffer[:, : end - start])
            if neighbor_scores is not None:
                scores += neighbor_scores[:, start:end]
            if self.allowed is not None:
                scores[:, ~self.allowed[start:end]] = -np.inf
            if self.seen is not None:
                first, last = np.searchsorted(self.seen[1], (start, end))
                scores[self.seen[0][first:last], self.seen[1][first:last] - start] = -np.inf
            yield start, scores


def _merge_top(tops: Scores, users: PairIndices, new_scores: Scores, counts: PairIndices) -> Scores:
    """The ``n`` highest of each row of ``tops`` and the user's new scores, the lowest of them first.

    Args:
        tops: shape (users, n), -inf where there are fewer.
        users: the user of each new score, ascending.
        counts: how many new scores each user has.
    """
    new = np.full((len(tops), counts.max(initial=0)), -np.inf, np.float32)
    firsts = np.cumsum(counts) - counts
    new[users, np.arange(len(users)) - firsts[users]] = new_scores
    both = np.concatenate([tops, new], axis=1)
    both.partition(new.shape[1], axis=1)
    return both[:, new.shape[1] :]
