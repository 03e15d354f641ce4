"""Ranking metrics on a hold-out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.evaluation.splitting import Holdout, Indices, pair_indices
from recserver._internal.algorithms.top_n import top_n

TOP_K, RECALL_K = 10, 20
"""The number of recommended items for all metrics, and for recall."""
BLOCK_CELLS = 2**22
"""Scores in memory at once: 16 MiB."""

ScoreUsers = Callable[[Indices], NDArray[np.float32]]
"""From rows of users to the scores of all items, shape (rows, items)."""


def ranking_metrics(holdout: Holdout, score: ScoreUsers) -> dict[str, float]:
    """The metrics of a ranking of all items except those of the user's training pairs.

    All held-out items are equally relevant. With L the items recommended to a user, best first, and R the held-out
    items, they are means over the evaluated users:

    ``ndcg_at_10``: sum over ranks r <= 10 with L[r] in R of 1 / log2(r + 1), divided by the maximum for
        this |R| (Järvelin and Kekäläinen 2002).
    ``recall_at_20``: the share of R within the first 20 (Cremonesi, Koren and Turrin 2010).
    ``hr_at_10``: 1 if any of R is within the first 10, else 0 (Deshpande and Karypis 2004).

    ``coverage_at_10`` is the share of the training's items that are among the first 10 of at least one user
    (Herlocker et al. 2004). Equal scores are ordered by item id, as in serving.
    """
    n_held = np.diff(holdout.indptr)
    hits = np.zeros((len(holdout.users), RECALL_K), bool)
    recommended = np.zeros(len(holdout.training.items), bool)
    for block in _blocks(holdout):
        for index, ranked in _top_items(holdout, block, score(holdout.users[block])):
            hits[index, : len(ranked)] = _hits(holdout, index, ranked)
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
        scores: from rows of users to an array of shape (rows, items) per ranking. Each is modified, and used
            before the next one is requested.
    """
    sums: dict[int, float] = {}
    ideal = _ideal_dcg(np.diff(holdout.indptr))
    for block in _blocks(holdout):
        for ranking, block_scores in enumerate(scores(holdout.users[block])):
            for index, ranked in _top_items(holdout, block, block_scores):
                hits = _hits(holdout, index, ranked[:TOP_K])
                sums[ranking] = sums.get(ranking, 0.0) + hits @ _DISCOUNTS[: len(hits)] / ideal[index]
    return [float(total) / len(holdout.users) for total in sums.values()]


_DISCOUNTS = 1 / np.log2(np.arange(TOP_K) + 2)


def _ideal_dcg(n_held: Indices) -> NDArray[np.float64]:
    """The discounted cumulative gain of a perfect ranking, by the number of held-out items."""
    ideal: NDArray[np.float64] = np.cumsum(_DISCOUNTS)[np.minimum(n_held, TOP_K) - 1]
    return ideal


def _hits(holdout: Holdout, index: int, ranked: NDArray[np.intp]) -> NDArray[np.bool_]:
    return np.isin(ranked, holdout.items[holdout.indptr[index] : holdout.indptr[index + 1]])


def _blocks(holdout: Holdout) -> Iterator[slice]:
    size = max(1, BLOCK_CELLS // len(holdout.training.items))
    for start in range(0, len(holdout.users), size):
        yield slice(start, min(start + size, len(holdout.users)))


def _top_items(
    holdout: Holdout, block: slice, scores: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """The index of each evaluated user of a block, and the RECALL_K best items as columns of the training part.

    The users' training items are set to -inf in ``scores``.
    """
    pairs, rows = pair_indices(holdout.training.indptr, holdout.users[block])
    scores[rows, holdout.training.indices[pairs]] = -np.inf
    for offset, user_scores in enumerate(scores):
        yield block.start + offset, top_n(user_scores, RECALL_K)
