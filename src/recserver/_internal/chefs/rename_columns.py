"""``rename_columns`` of an entry, such as ``"userId->user_id,movieId->item_id"``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Annotated

from pydantic import BeforeValidator

from recserver._internal.core.errors import quoted
from recserver._internal.core.validation.values import unicode_text

MAX_NAME_LENGTH = 256
MAX_RENAMES = 1000

EXAMPLE = "write it like userId->user_id,movieId->item_id"


def parse_renames(value: object) -> dict[str, str]:
    """Old name → new name, from text, an object, or nothing.

    Raises:
        ValueError: for a malformed pair, a duplicate name, or a name that contains ``,`` or ``->``.
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
                raise ValueError(f"{quoted(name)} is not a valid column name: {EXAMPLE}")
        if old in renames:
            raise ValueError(f"{quoted(old)} is renamed twice: remove one")
        if new in renames.values():
            raise ValueError(f"two columns are renamed to {quoted(new)}: remove one")
        renames[old] = new
    if len(renames) > MAX_RENAMES:
        raise ValueError(f"renames more than {MAX_RENAMES} columns: rename only those that a training needs")
    return renames


def canonical_renames(value: object) -> str:
    """The canonical text form, in which renames are stored and returned."""
    return ",".join(f"{old}->{new}" for old, new in parse_renames(value).items())


def renamed_columns(columns: Iterable[str], renames: Mapping[str, str]) -> dict[str, str]:
    """Name after renaming → name in the source.

    A renamed column replaces a column that already has its new name.
    """
    columns = list(columns)
    renamed = {new: old for old, new in renames.items() if old in columns}
    return {column: column for column in columns if column not in renames and column not in renamed} | renamed


RenameColumns = Annotated[
    str | dict[str, str], BeforeValidator(canonical_renames, json_schema_input_type=str | dict[str, str])
]
