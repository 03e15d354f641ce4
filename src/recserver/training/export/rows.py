"""The rows of an export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from recserver.recommend.pipeline import Recommendations


@dataclass(slots=True)
class Rows:
    """Some rows, column by column; what they share is in :class:`Exported`."""

    user_ids: list[str] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    item_ids: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def add(self, user_id: str, answer: Recommendations) -> None:
        """One user's items, best first, with ranks from 1 on."""
        count = len(answer.items)
        self.user_ids += [user_id] * count
        self.ranks += range(1, count + 1)
        self.item_ids += [item for item, _ in answer.items]
        self.scores += [score for _, score in answer.items]

    def __len__(self) -> int:
        return len(self.ranks)


@dataclass(frozen=True, slots=True)
class ExportedVersion:
    """Which version of which model is exported."""

    model_id: str
    model_version: int


WriteRows = Callable[[Rows], None]
