"""The best items of many people at once, by products of matrices: as exact as one by one, and for less each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.top_n import nth_lower_bound
from recserver.recommend.model.recommender import Recommender, Scores
from recserver.recommend.scoring import Indices, error_bound, exact_scores, in_blocks
from recserver.recommend.user_profile import FLOAT32_MAX, UserProfile

MIN_BATCH = 6
"""People for whom a product of matrices may be quicker than a product for each."""

CACHED_FACTORS = 2**20
"""Factors of items that stay in a processor's cache; reading more of them costs several times as much."""

MAX_BATCH_DEPTH = 256
"""Items of each that may be asked for; for more of them it is not quicker."""

BLOCK_SCORES = 2**17
"""Scores that are looked at together, about, so that they stay in a core's cache."""

MIN_BLOCK_ITEMS = 2**13
"""Items that are looked at together at least: where there are many people, shorter blocks are not quicker."""

MAX_NEIGHBOR_SCORES = 2**24
"""Scores by neighbours that are in memory together, 64 MiB."""

TIES_PER_ITEM, MAX_TIES = 64, 2**12
"""Items that may score alike around somebody's nth best: so many for each of the n, and at most. Who has more of
them, as they come where items share factors, is answered alone."""

TopItems = tuple[Indices, Scores]
PairIndices = NDArray[np.intp]
Mask = NDArray[np.bool_]


def is_faster_batched(model: Recommender, profiles: Sequence[UserProfile]) -> bool:
    """Whether a product of matrices finds the best of these people sooner than a product for each.

    It reads all factors of all items once, and copies them; the other only those that are not zero for somebody.
    """
    if len(profiles) < MIN_BATCH or not len(model.item_factors):
        return False
    active = sum(int(np.count_nonzero(person.factors)) for person in profiles)
    return active >= len(model.item_factors) * (1 if model.item_factors.size <= CACHED_FACTORS else 4)


def top_items_batch(
    model: Recommender, profiles: Sequence[UserProfile], n: int, allowed: Mask | None, *, exclude_seen: bool
) -> Iterator[TopItems | None]:
    """The places and the exact scores of the ``n`` best items of each, best first; equal ones by place.

    None for whoever has too many items that score alike, and is to be answered alone.

    Args:
        n: at most :data:`FARTHEST`.
        left: the items that may come, shape (items,); None for all.
        unseen: whether what somebody interacted with is left out.
    """
    step = (
        len(profiles)
        if model.neighbors is None
        else max(MIN_BATCH, MAX_NEIGHBOR_SCORES // max(1, len(model.items)))
    )
    for start in range(0, len(profiles), step):
        some = profiles[start : start + step]
        yield from _BatchSearch(model, some, n, allowed, _seen_pairs(some) if exclude_seen else None).top_items()


def _seen_pairs(profiles: Sequence[UserProfile]) -> tuple[PairIndices, PairIndices]:
    """What each interacted with: numbers of people and places of items, in the order of these."""
    who = np.repeat(np.arange(len(profiles)), [len(person.items) for person in profiles])
    places = np.concatenate([person.items for person in profiles])
    order = np.argsort(places, kind="stable")
    return who[order], places[order].astype(np.intp)


@dataclass(frozen=True, slots=True)
class _BatchSearch:
    model: Recommender
    profiles: Sequence[UserProfile]
    n: int
    allowed: Mask | None
    seen: tuple[PairIndices, PairIndices] | None

    def top_items(self) -> Iterator[TopItems | None]:
        factors, said = np.stack([person.factors for person in self.profiles]), self._neighbor_scores()
        who, places, crowded = self._candidates(factors, said)

        def of(some: slice) -> Scores:
            return exact_scores(
                factors.T.take(who[some], axis=1),
                self.model.item_factors.take(places[some], axis=1),
                None if said is None else said[who[some], places[some]],
            )

        exact = in_blocks(len(who), of)
        order = np.lexsort((places, -exact, who))
        places, exact = places[order], exact[order]
        ends = np.cumsum(np.bincount(who, minlength=len(self.profiles))).tolist()
        for start, end, alone in zip([0, *ends], ends, crowded.tolist(), strict=False):
            own = slice(start, min(end, start + self.n))
            yield None if alone else (places[own], exact[own])

    def _neighbor_scores(self) -> Scores | None:
        """What neighbours say, shape (people, items)."""
        if self.model.neighbors is None:
            return None
        said = np.zeros((len(self.profiles), len(self.model.items)), np.float32)
        for own, person in zip(said, self.profiles, strict=True):
            self.model.neighbors.add_scores(own, person.items, person.confidences)
        return said

    def _candidates(
        self, factors: NDArray[np.float32], neighbor_scores: Scores | None
    ) -> tuple[PairIndices, PairIndices, Mask]:
        """Pairs of people and places among which the best of each are, and few others; and who has too many.

        The nth best of what has been seen of somebody's scores is a lower bound for the nth best of all, below
        which none is kept; it rises from block to block.
        """
        errors = [
            error_bound(self.model, own, None if neighbor_scores is None else neighbor_scores[number])
            for number, own in enumerate(factors)
        ]
        margins, most = 2 * np.array(errors, np.float32), min(MAX_TIES, TIES_PER_ITEM * self.n)
        tops, counts = np.full((len(factors), self.n), -np.inf, np.float32), np.zeros(len(factors), np.intp)
        kept: list[tuple[PairIndices, PairIndices, Scores]] = []
        for start, scores in self._blocks(factors, neighbor_scores):
            nth = tops[:, 0] if kept else nth_lower_bound(scores, self.n)
            floors = np.where(counts > most, np.inf, np.fmax(nth - margins, -FLOAT32_MAX)).astype(np.float32)
            who, places = np.divmod(np.flatnonzero(scores >= floors[:, np.newaxis]), scores.shape[1])
            reached = scores[who, places]
            kept.append((who, places + start, reached))
            own = np.bincount(who, minlength=len(factors))
            tops, counts = _merge_top(tops, who, reached, own), counts + own
        who, places, reached = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        crowded = counts > most
        last = (reached >= np.fmax(tops[:, 0] - margins, -FLOAT32_MAX)[who]) & ~crowded[who]
        return who[last], places[last], crowded

    def _blocks(
        self, factors: NDArray[np.float32], neighbor_scores: Scores | None
    ) -> Iterator[tuple[int, Scores]]:
        """The place of a block's first item, and rough scores, shape (people, items), until the next block."""
        items = len(self.model.items)
        size = min(items, max(MIN_BLOCK_ITEMS, BLOCK_SCORES // len(factors)))
        bounds = [0, *range(size, items, size), items] if items else [0, 0]
        room = np.empty((len(factors), size), np.float32)
        for start, end in pairwise(bounds):
            scores = np.matmul(factors, self.model.item_factors[:, start:end], out=room[:, : end - start])
            if neighbor_scores is not None:
                scores += neighbor_scores[:, start:end]
            if self.allowed is not None:
                scores[:, ~self.allowed[start:end]] = -np.inf
            if self.seen is not None:
                first, last = np.searchsorted(self.seen[1], (start, end))
                scores[self.seen[0][first:last], self.seen[1][first:last] - start] = -np.inf
            yield start, scores


def _merge_top(tops: Scores, users: PairIndices, new_scores: Scores, counts: PairIndices) -> Scores:
    """The ``n`` highest of each row of ``tops`` and of what its person reached beside, the lowest of them first.

    Args:
        tops: shape (people, n), -inf where there are fewer.
        who, reached: people, ascending, and scores.
        counts: how many scores each has.
    """
    beside = np.full((len(tops), counts.max(initial=0)), -np.inf, np.float32)
    firsts = np.cumsum(counts) - counts
    beside[users, np.arange(len(users)) - firsts[users]] = new_scores
    both = np.concatenate([tops, beside], axis=1)
    both.partition(beside.shape[1], axis=1)
    return both[:, beside.shape[1] :]
