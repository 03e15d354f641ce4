"""From the rows of a source to interactions: renamed, validated, counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recserver.chefs import Batch
from recserver.errors import SourceFailed, shown
from recserver.interactions import Interactions
from recserver.specs.columns import rename
from recserver.specs.values import LONGEST_ENTITY_ID, entity_id

MOST_SHOWN = 20
"""Column names that an error lists."""

REASONS = (
    "is missing",
    "is empty",
    f"is longer than {LONGEST_ENTITY_ID} characters",
    "is neither text nor a number",
    "is not valid Unicode",
)
"""Why a value is no id; the code of a refused value is ``-1 - place`` here."""

_MISSING, _EMPTY, _OVERLONG, _FOREIGN, _NOT_UNICODE = range(-1, -1 - len(REASONS), -1)

Codes = NDArray[np.int64]


class Vocabulary:
    """Ids in the order in which they were first seen."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def encode(self, values: NDArray[Any]) -> Codes:
        """The code of each value, shape (rows,); negative, by :data:`REASONS`, where it is no id."""
        if _kind(values) in ("string", "integer"):  # equal ones are the same id: each is judged once
            places, distinct = pd.factorize(values, use_na_sentinel=False)
            return self._judge(distinct.tolist())[places]
        return self._judge(values.tolist())

    def _judge(self, values: Iterable[object]) -> Codes:
        verdicts = (_as_id(value) for value in values)
        return np.fromiter(
            (one if isinstance(one, int) else self._codes.setdefault(one, len(self._codes)) for one in verdicts),
            np.int64,
        )

    def used(self, codes: Codes) -> tuple[list[str], Codes]:
        """The ids that occur in ``codes``, ascending, and for each row its place among them."""
        occurs = np.bincount(codes, minlength=len(self._codes)) > 0
        ids = sorted(one for one, code in self._codes.items() if occurs[code])
        places = np.empty(len(self._codes), np.int64)
        places[[self._codes[one] for one in ids]] = np.arange(len(ids))
        return ids, places[codes]


class InteractionsBuilder:
    """Takes batches as they come and ends in :class:`Interactions`.

    Bad rows are counted by reason. Where a pair is repeated, the rating that comes last in the source stands:
    it is what the user said most recently, and it keeps counted events from outweighing everything else.
    """

    def __init__(self, renames: Mapping[str, str]) -> None:
        self._renames = dict(renames)
        self._users, self._items = Vocabulary(), Vocabulary()
        self._parts: list[tuple[Codes, Codes, NDArray[np.float32]]] = []
        self._found: tuple[str, ...] = ()
        self.rejected: Counter[str] = Counter()
        self.rows_read = 0

    def wanted(self) -> set[str]:
        """The names in the source that may become a column a training needs."""
        needed = {"user_id", "item_id", "rating"}
        return needed | {old for old, new in self._renames.items() if new in needed}

    def add(self, batch: Batch) -> None:
        """Validate one batch of rows."""
        self._found = batch.found
        if not batch.n_rows:
            return
        self.rows_read += batch.n_rows
        source = rename(batch.columns, self._renames)
        absent = np.full(batch.n_rows, None, object)
        users, items = (batch.columns.get(source.get(name, ""), absent) for name in ("user_id", "item_id"))
        ratings = ratings_of(batch.columns[source["rating"]]) if "rating" in source else np.ones(batch.n_rows)
        user_codes, item_codes = self._users.encode(users), self._items.encode(items)
        self._count_rejected("user_id", user_codes)
        self._count_rejected("item_id", item_codes[user_codes >= 0])
        good = (user_codes >= 0) & (item_codes >= 0)
        self._parts.append((user_codes[good], item_codes[good], ratings[good].astype(np.float32)))

    def build(self) -> Interactions:
        """All batches together.

        Raises:
            SourceFailed: if no usable row came, or the source has no column for the user or the item.
        """
        rows_used = sum(len(part[0]) for part in self._parts)
        if not rows_used:
            raise SourceFailed(self._nothing_usable())
        user_codes, item_codes, ratings = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        self._parts.clear()
        users, rows = self._users.used(user_codes)
        items, columns = self._items.used(item_codes)
        order = np.lexsort((columns, rows))  # stable: repeated pairs stay in the order of the source
        rows, columns, ratings = rows[order], columns[order], ratings[order]
        last = np.ones(rows_used, bool)
        last[:-1] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
        indptr = np.zeros(len(users) + 1, np.int64)
        np.cumsum(np.bincount(rows[last], minlength=len(users)), out=indptr[1:])
        return Interactions(
            users=users,
            items=items,
            indptr=indptr,
            indices=columns[last].astype(np.int32),
            ratings=ratings[last],
            rows_used=rows_used,
            rejected=dict(self.rejected),
        )

    def _count_rejected(self, column: str, codes: Codes) -> None:
        for code, count in Counter(codes[codes < 0].tolist()).items():
            self.rejected[f"{column} {REASONS[-1 - code]}"] += count

    def _nothing_usable(self) -> str:
        found = f"columns found: {_listed(self._found)}" if self._found else "no columns were found"
        missing = [one for one in ("user_id", "item_id") if one not in rename(self._found, self._renames)]
        if self._found and missing:
            return (
                f"The source has no column {' and no column '.join(missing)}; {found}. "
                "Say which is which in rename_columns of the data chef, like userId->user_id."
            )
        if not self.rows_read:
            return f"The source holds no rows; {found}. Check the path, query or address of the data chef."
        reasons = ", ".join(f"{reason}: {count}" for reason, count in self.rejected.items())
        return f"None of the {self.rows_read} rows is usable ({reasons}); {found}. Correct the data or the chef."


def ratings_of(values: NDArray[Any]) -> NDArray[np.float32]:
    """Shape (rows,): the ratings as numbers; 1.0 where one is missing, no number, or not finite."""
    if values.dtype == object and _kind(values) != "string":
        values = np.array([_as_number(value) for value in values.tolist()], np.float64)
    with np.errstate(over="ignore"):  # beyond float32 is not finite either
        ratings = np.asarray(pd.to_numeric(pd.Series(values), errors="coerce"), np.float64).astype(np.float32)
    return np.where(np.isfinite(ratings), ratings, np.float32(1))


def _kind(values: NDArray[Any]) -> str:
    """What all values are that are not missing: ``string``, ``integer``, or something else."""
    return pd.api.types.infer_dtype(values, skipna=True)


def _as_id(value: object) -> str | int:
    """The id that a source's value stands for, or the code of the reason why it stands for none."""
    if isinstance(value, Decimal) and value.is_finite():
        if value.adjusted() >= LONGEST_ENTITY_ID:
            return _OVERLONG  # written out, it could fill the memory
        value = int(value) if value == value.to_integral_value() else str(value)
    elif isinstance(value, UUID | np.generic):
        value = str(value) if isinstance(value, UUID) else value.item()
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return _MISSING
    if isinstance(value, str) and not _is_unicode(value):
        return _NOT_UNICODE
    try:
        return entity_id(value)
    except ValueError:
        if not isinstance(value, str | int) or isinstance(value, bool):
            return _FOREIGN
        return _EMPTY if value == "" else _OVERLONG


def _is_unicode(text: str) -> bool:
    """Whether it holds no half of a character."""
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_number(value: object) -> float:
    if isinstance(value, str) and ("_" in value or not value.isascii()):
        return math.nan  # Python would take 1_000 and digits of other scripts, pandas does not
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(shown(name) for name in names[:MOST_SHOWN]) + more
