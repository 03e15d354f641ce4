"""``rename_columns``: which column of a source is which. ``"userId->user_id,movieId->item_id"``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Annotated

from pydantic import BeforeValidator

from recserver.core.errors import shown
from recserver.core.validation.values import unicode_text

LONGEST_NAME = 256
MOST_PAIRS = 1000

EXAMPLE = "write it like userId->user_id,movieId->item_id"


def parse_renames(value: object) -> dict[str, str]:
    """Old name → new name, from the text form, the object form, or nothing.

    Raises:
        ValueError: for a malformed pair, a name given twice, or a name that holds ``,`` or ``->``.
    """
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        pairs = [_split(part) for part in islice(value.split(","), MOST_PAIRS + 1)]
    elif isinstance(value, Mapping):
        items = islice(value.items(), MOST_PAIRS + 1)
        pairs = [(str(old).strip(), new.strip() if isinstance(new, str) else "") for old, new in items]
    else:
        raise ValueError(f"must be text or an object: {EXAMPLE}")
    return _checked(pairs)


def _split(part: str) -> tuple[str, str]:
    old, arrow, new = part.partition("->" if "->" in part else ":")
    if not arrow:
        raise ValueError(f"{shown(part.strip())} is not a pair of names: {EXAMPLE}")
    return old.strip(), new.strip()


def _checked(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    renames: dict[str, str] = {}
    for old, new in pairs:
        for name in (old, new):
            unicode_text(name)
            if not name or len(name) > LONGEST_NAME or "," in name or "->" in name:
                raise ValueError(f"{shown(name)} is not usable as a column name here: {EXAMPLE}")
        if old in renames:
            raise ValueError(f"{shown(old)} is renamed twice: keep one")
        if new in renames.values():
            raise ValueError(f"two columns become {shown(new)}: keep one")
        renames[old] = new
    if len(renames) > MOST_PAIRS:
        raise ValueError(f"names more than {MOST_PAIRS} columns: keep those that a training needs")
    return renames


def canonical_renames(value: object) -> str:
    """The one text form in which renames are stored and returned."""
    return ",".join(f"{old}->{new}" for old, new in parse_renames(value).items())


def rename(columns: Iterable[str], renames: Mapping[str, str]) -> dict[str, str]:
    """New name → the source's name, for every column that stays.

    A renamed column replaces one that already bears its new name.
    """
    columns = list(columns)
    taken = {new for old, new in renames.items() if old in columns}
    named = {column: column for column in columns if column not in renames and column not in taken}
    named.update({new: old for old, new in renames.items() if old in columns})
    return named


RenameColumns = Annotated[str, BeforeValidator(canonical_renames)]
