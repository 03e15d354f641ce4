"""The metrics of a ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.evaluation.splitting import Holdout, Indices, pair_indices
from recserver.algorithms.top_n import top_n

TOP_K, RECALL_K = 10, 20
"""How many items are recommended to each user: recall looks at the long list, everything else at the short one."""
BLOCK_CELLS = 2**22
"""Scores that are in memory together: 16 MiB."""

ScoreUsers = Callable[[Indices], NDArray[np.float32]]
"""From some rows to the scores of all items, shape (rows, items)."""


def ranking_metrics(holdout: Holdout, score: ScoreUsers) -> dict[str, float]:
    """The metrics of a ranking of all items, those that the user has in the training part left out.

    Every held-out item is relevant, and none more than another. With L the items recommended to a user, best
    first, and R those held out, means over the evaluated users of:

    ``ndcg_at_10``: sum over ranks r <= 10 with L[r] in R of 1 / log2(r + 1), divided by the largest sum that |R|
        allows (Järvelin and Kekäläinen 2002).
    ``recall_at_20``: the share of R within the first 20 (Cremonesi, Koren and Turrin 2010).
    ``hr_at_10``: 1 if any of R is within the first 10, else 0 (Deshpande and Karypis 2004).

    And of all users together, ``coverage_at_10``: the share of the training part's items that are among anybody's
    first 10 (Herlocker et al. 2004). Equal scores stand in the order of the items' ids, as when serving.
    """
    n_held = np.diff(holdout.indptr)
    hits = np.zeros((len(holdout.users), RECALL_K), bool)
    recommended = np.zeros(len(holdout.training.items), bool)
    for places in _blocks(holdout):
        for place, ranked in _top_items(holdout, places, score(holdout.users[places])):
            hits[place, : len(ranked)] = _hits(holdout, place, ranked)
            recommended[ranked[:TOP_K]] = True
    return {
        "ndcg_at_10": float((hits[:, :TOP_K] @ _DISCOUNTS / _ideal_dcg(n_held)).mean()),
        "recall_at_20": float((hits.sum(axis=1) / n_held).mean()),
        "hr_at_10": float(hits[:, :TOP_K].any(axis=1).mean()),
        "coverage_at_10": float(recommended.mean()),
    }


def ndcg_per_ranking(holdout: Holdout, scores: Callable[[Indices], Iterable[NDArray[np.float32]]]) -> list[float]:
    """``ndcg_at_10`` of several rankings.

    Args:
        scores: from some rows to as many arrays of shape (rows, items) as there are rankings, each used up before
            the next is asked for.
    """
    sums: dict[int, float] = {}
    ideal = _ideal_dcg(np.diff(holdout.indptr))
    for places in _blocks(holdout):
        for number, one in enumerate(scores(holdout.users[places])):
            for place, ranked in _top_items(holdout, places, one):
                found = _hits(holdout, place, ranked[:TOP_K])
                sums[number] = sums.get(number, 0.0) + found @ _DISCOUNTS[: len(found)] / ideal[place]
    return [float(total) / len(holdout.users) for total in sums.values()]


_DISCOUNTS = 1 / np.log2(np.arange(TOP_K) + 2)


def _ideal_dcg(n_held: Indices) -> NDArray[np.float64]:
    """The gain of a perfect list for so many held-out items."""
    best_first: NDArray[np.float64] = np.cumsum(_DISCOUNTS)[np.minimum(n_held, TOP_K) - 1]
    return best_first


def _hits(holdout: Holdout, index: int, ranked: NDArray[np.intp]) -> NDArray[np.bool_]:
    return np.isin(ranked, holdout.items[holdout.indptr[index] : holdout.indptr[index + 1]])


def _blocks(holdout: Holdout) -> Iterator[slice]:
    size = max(1, BLOCK_CELLS // len(holdout.training.items))
    for start in range(0, len(holdout.users), size):
        yield slice(start, min(start + size, len(holdout.users)))


def _top_items(
    holdout: Holdout, block: slice, scores: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """The best items for each evaluated user of a block, as columns of the training part, at most ``LONG``.

    ``scores`` lose what the users have seen.
    """
    pairs, rows = pair_indices(holdout.training.indptr, holdout.users[block])
    scores[rows, holdout.training.indices[pairs]] = -np.inf
    for number, one in enumerate(scores):
        yield block.start + number, top_n(one, RECALL_K)
