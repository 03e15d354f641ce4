"""``rename_columns``: which column of a source is which. ``"userId->user_id,movieId->item_id"``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Annotated

from pydantic import BeforeValidator

from recserver.core.errors import quoted
from recserver.core.validation.values import unicode_text

MAX_NAME_LENGTH = 256
MAX_RENAMES = 1000

EXAMPLE = "write it like userId->user_id,movieId->item_id"


def parse_renames(value: object) -> dict[str, str]:
    """Old name → new name, from the text form, the object form, or nothing.

    Raises:
        ValueError: for a malformed pair, a name given twice, or a name that holds ``,`` or ``->``.
    """
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        pairs = [_split(part) for part in islice(value.split(","), MAX_RENAMES + 1)]
    elif isinstance(value, Mapping):
        items = islice(value.items(), MAX_RENAMES + 1)
        pairs = [(str(old).strip(), new.strip() if isinstance(new, str) else "") for old, new in items]
    else:
        raise ValueError(f"must be text or an object: {EXAMPLE}")
    return _validated(pairs)


def _split(part: str) -> tuple[str, str]:
    old, arrow, new = part.partition("->" if "->" in part else ":")
    if not arrow:
        raise ValueError(f"{quoted(part.strip())} is not a pair of names: {EXAMPLE}")
    return old.strip(), new.strip()


def _validated(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    renames: dict[str, str] = {}
    for old, new in pairs:
        for name in (old, new):
            unicode_text(name)
            if not name or len(name) > MAX_NAME_LENGTH or "," in name or "->" in name:
                raise ValueError(f"{quoted(name)} is not usable as a column name here: {EXAMPLE}")
        if old in renames:
            raise ValueError(f"{quoted(old)} is renamed twice: keep one")
        if new in renames.values():
            raise ValueError(f"two columns become {quoted(new)}: keep one")
        renames[old] = new
    if len(renames) > MAX_RENAMES:
        raise ValueError(f"names more than {MAX_RENAMES} columns: keep those that a training needs")
    return renames


def canonical_renames(value: object) -> str:
    """The one text form in which renames are stored and returned."""
    return ",".join(f"{old}->{new}" for old, new in parse_renames(value).items())


def renamed_columns(columns: Iterable[str], renames: Mapping[str, str]) -> dict[str, str]:
    """New name → the source's name, for every column that stays.

    A renamed column replaces one that already bears its new name.
    """
    columns = list(columns)
    taken = {new for old, new in renames.items() if old in columns}
    named = {column: column for column in columns if column not in renames and column not in taken}
    named.update({new: old for old, new in renames.items() if old in columns})
    return named


RenameColumns = Annotated[str, BeforeValidator(canonical_renames)]
