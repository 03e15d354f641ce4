"""The best items of many people at once, by products of matrices: as exact as one by one, and for less each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.top_n import nth_of_maxima
from recserver.recommend.model.recommender import Recommender, Scores
from recserver.recommend.scoring import Places, added_up, error, in_steps
from recserver.recommend.user_profile import LARGEST, Person

FEWEST = 6
"""People for whom a product of matrices may be quicker than a product for each."""

CACHED = 2**20
"""Factors of items that stay in a processor's cache; reading more of them costs several times as much."""

FARTHEST = 256
"""Items of each that may be asked for; for more of them it is not quicker."""

BLOCK = 2**17
"""Scores that are looked at together, about, so that they stay in a core's cache."""

SHORTEST = 2**13
"""Items that are looked at together at least: where there are many people, shorter blocks are not quicker."""

ROOM = 2**24
"""Scores by neighbours that are in memory together, 64 MiB."""

ALIKE_EACH, MOST_ALIKE = 64, 2**12
"""Items that may score alike around somebody's nth best: so many for each of the n, and at most. Who has more of
them, as they come where items share factors, is answered alone."""

Found = tuple[Places, Scores]
Pairs = NDArray[np.intp]
Mask = NDArray[np.bool_]


def is_quicker(model: Recommender, people: Sequence[Person]) -> bool:
    """Whether a product of matrices finds the best of these people sooner than a product for each.

    It reads all factors of all items once, and copies them; the other only those that are not zero for somebody.
    """
    if len(people) < FEWEST or not len(model.item_factors):
        return False
    active = sum(int(np.count_nonzero(person.factors)) for person in people)
    return active >= len(model.item_factors) * (1 if model.item_factors.size <= CACHED else 4)


def best_of_many(
    model: Recommender, people: Sequence[Person], n: int, left: Mask | None, *, unseen: bool
) -> Iterator[Found | None]:
    """The places and the exact scores of the ``n`` best items of each, best first; equal ones by place.

    None for whoever has too many items that score alike, and is to be answered alone.

    Args:
        n: at most :data:`FARTHEST`.
        left: the items that may come, shape (items,); None for all.
        unseen: whether what somebody interacted with is left out.
    """
    step = len(people) if model.neighbors is None else max(FEWEST, ROOM // max(1, len(model.items)))
    for start in range(0, len(people), step):
        some = people[start : start + step]
        yield from _Search(model, some, n, left, _seen(some) if unseen else None).best()


def _seen(people: Sequence[Person]) -> tuple[Pairs, Pairs]:
    """What each interacted with: numbers of people and places of items, in the order of these."""
    who = np.repeat(np.arange(len(people)), [len(person.items) for person in people])
    places = np.concatenate([person.items for person in people])
    order = np.argsort(places, kind="stable")
    return who[order], places[order].astype(np.intp)


@dataclass(frozen=True, slots=True)
class _Search:
    model: Recommender
    people: Sequence[Person]
    n: int
    left: Mask | None
    seen: tuple[Pairs, Pairs] | None

    def best(self) -> Iterator[Found | None]:
        factors, said = np.stack([person.factors for person in self.people]), self._said()
        who, places, crowded = self._candidates(factors, said)

        def of(some: slice) -> Scores:
            return added_up(
                factors.T.take(who[some], axis=1),
                self.model.item_factors.take(places[some], axis=1),
                None if said is None else said[who[some], places[some]],
            )

        exact = in_steps(len(who), of)
        order = np.lexsort((places, -exact, who))
        places, exact = places[order], exact[order]
        ends = np.cumsum(np.bincount(who, minlength=len(self.people))).tolist()
        for start, end, alone in zip([0, *ends], ends, crowded.tolist(), strict=False):
            own = slice(start, min(end, start + self.n))
            yield None if alone else (places[own], exact[own])

    def _said(self) -> Scores | None:
        """What neighbours say, shape (people, items)."""
        if self.model.neighbors is None:
            return None
        said = np.zeros((len(self.people), len(self.model.items)), np.float32)
        for own, person in zip(said, self.people, strict=True):
            self.model.neighbors.add_scores(own, person.items, person.strengths)
        return said

    def _candidates(self, factors: NDArray[np.float32], said: Scores | None) -> tuple[Pairs, Pairs, Mask]:
        """Pairs of people and places among which the best of each are, and few others; and who has too many.

        The nth best of what has been seen of somebody's scores is a lower bound for the nth best of all, below
        which none is kept; it rises from block to block.
        """
        errors = [
            error(self.model, own, None if said is None else said[number]) for number, own in enumerate(factors)
        ]
        margins, most = 2 * np.array(errors, np.float32), min(MOST_ALIKE, ALIKE_EACH * self.n)
        tops, counts = np.full((len(factors), self.n), -np.inf, np.float32), np.zeros(len(factors), np.intp)
        kept: list[tuple[Pairs, Pairs, Scores]] = []
        for start, scores in self._blocks(factors, said):
            nth = tops[:, 0] if kept else nth_of_maxima(scores, self.n)
            floors = np.where(counts > most, np.inf, np.fmax(nth - margins, -LARGEST)).astype(np.float32)
            who, places = np.divmod(np.flatnonzero(scores >= floors[:, np.newaxis]), scores.shape[1])
            reached = scores[who, places]
            kept.append((who, places + start, reached))
            own = np.bincount(who, minlength=len(factors))
            tops, counts = _highest(tops, who, reached, own), counts + own
        who, places, reached = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        crowded = counts > most
        last = (reached >= np.fmax(tops[:, 0] - margins, -LARGEST)[who]) & ~crowded[who]
        return who[last], places[last], crowded

    def _blocks(self, factors: NDArray[np.float32], said: Scores | None) -> Iterator[tuple[int, Scores]]:
        """The place of a block's first item, and rough scores, shape (people, items), until the next block."""
        items = len(self.model.items)
        size = min(items, max(SHORTEST, BLOCK // len(factors)))
        bounds = [0, *range(size, items, size), items] if items else [0, 0]
        room = np.empty((len(factors), size), np.float32)
        for start, end in pairwise(bounds):
            scores = np.matmul(factors, self.model.item_factors[:, start:end], out=room[:, : end - start])
            if said is not None:
                scores += said[:, start:end]
            if self.left is not None:
                scores[:, ~self.left[start:end]] = -np.inf
            if self.seen is not None:
                first, last = np.searchsorted(self.seen[1], (start, end))
                scores[self.seen[0][first:last], self.seen[1][first:last] - start] = -np.inf
            yield start, scores


def _highest(tops: Scores, who: Pairs, reached: Scores, counts: Pairs) -> Scores:
    """The ``n`` highest of each row of ``tops`` and of what its person reached beside, the lowest of them first.

    Args:
        tops: shape (people, n), -inf where there are fewer.
        who, reached: people, ascending, and scores.
        counts: how many scores each has.
    """
    beside = np.full((len(tops), counts.max(initial=0)), -np.inf, np.float32)
    firsts = np.cumsum(counts) - counts
    beside[who, np.arange(len(who)) - firsts[who]] = reached
    both = np.concatenate([tops, beside], axis=1)
    both.partition(beside.shape[1], axis=1)
    return both[:, beside.shape[1] :]
