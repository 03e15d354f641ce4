"""What to change in a data chef whose source lacks a column: the nearest names, and the corrected text to copy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from recserver.chefs.rename_columns import parse_renames, rename
from recserver.chefs.row_rules import RowRules
from recserver.core.errors import shown
from recserver.training.ingest.column_matching import like, nearest

MOST_SHOWN = 20
"""Column names that a sentence lists."""

MOST_LOOKED_AT = 10_000
"""Column names that are looked at: sources may have a million."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a source beside the names of its columns.

    Attributes:
        nested: column → what its values are, such as ``objects (id, name)``; of those that hold no plain values.
        numeric: whether a column's values are numbers, as far as anybody has looked.
        apart: how two columns of the same name are told apart there.
        elsewhere: what else than plain ids would help where values are nested; "" if nothing.
    """

    nested: Mapping[str, str] = field(default_factory=dict)
    numeric: Callable[[str], bool] = lambda _: True
    apart: str = "give one of them another name there"
    elsewhere: str = ""


NOTHING = Known()


def suggestions(found: Sequence[str], rules: RowRules, known: Known = NOTHING) -> list[str]:
    """What to change so that every needed column is there, a sentence each; empty if nothing is missing.

    Args:
        found: names of the source's columns.
        rules: of the entry.
        known: whatever else is known of the source.
    """
    if twice := named_twice(found, rules):
        return [f"The source has two columns named {shown(one)}: {known.apart}." for one in twice.values()]
    return _Suggesting(found, rules, known).sentences() if found else []


def named_twice(found: Sequence[str], rules: RowRules) -> dict[str, str]:
    """Needed column → its name in the source, of those whose name several columns have there."""
    needed = rules.needed()
    columns = rename(found, rules.renames)
    return {new: old for new, old in columns.items() if new in needed and found.count(old) > 1}


class _Suggesting:
    """One way through the needed columns."""

    def __init__(self, found: Sequence[str], rules: RowRules, known: Known) -> None:
        self._found, self._known = found, known
        self._renames, self._needed = rules.renames, rules.needed()
        given = {"event_column": rules.event_column, "timestamp_column": rules.timestamp_column}
        self._keys = {name: key for key, name in given.items() if name is not None and name in self._needed}
        there = set(found)
        self._absent = {new: old for old, new in self._renames.items() if old not in there}
        self._fixed = {old: new for old, new in self._renames.items() if old in there}
        self._free = [
            name
            for name in found[:MOST_LOOKED_AT]
            if name not in self._fixed and name not in self._needed and name not in known.nested
            if _can_be_renamed(name)
        ]
        self._said: list[str] = []
        self._perhaps: list[str] = []

    def sentences(self) -> list[str]:
        """What must be done, its result to copy, what may be done, and what is of no use."""
        for name, must in self._needed.items():
            columns = rename(self._found, self._fixed)
            if name not in columns:
                self._look_for(name, must, self._absent.get(name))
            elif must and columns[name] in self._known.nested:
                self._said.append(self._nested(name, columns[name]))
        if self._said and self._fixed and self._fixed != self._renames:
            self._said.append(f"With all of that it is rename_columns: {_text(self._fixed)}")
        useless = [_useless(old, new, self._found) for new, old in self._absent.items() if new not in self._needed]
        return [*self._said, *self._perhaps, *useless]

    def _look_for(self, name: str, must: bool, asked: str | None) -> None:
        """Say what to do for a column that is not there.

        Args:
            asked: the column that should have become it, and is not there either.
        """
        if name in self._keys and asked is None:
            self._said.append(self._said_otherwise(name, self._keys[name]))
            return
        misnamed = self._misnamed(name) if must and asked is None else None
        if misnamed is not None:
            self._said.append(
                f"There is no column {name}; rename_columns makes {shown(self._fixed[misnamed])} of "
                f"{shown(misnamed)}: write {misnamed}->{name} there."
            )
            self._fixed[misnamed] = name
            return
        match = self._match(name, asked)
        if match is not None and not (must or asked):
            self._perhaps += self._optional(name, match)
            return
        if match is not None:
            self._free.remove(match)
            self._fixed[match] = name
        if asked is not None or must:
            self._said.append(self._sentence(name, asked, match))

    def _match(self, name: str, asked: str | None) -> str | None:
        """The column that is probably ``name``: near to what was asked for, or what people often call it."""
        free = list(self._free)
        while True:
            match = (nearest(asked, free) if asked is not None else None) or like(name, free)
            if match is None or name != "rating" or self._known.numeric(match):
                return match
            free.remove(match)

    def _misnamed(self, name: str) -> str | None:
        """The column that is renamed, but to something that only resembles ``name``."""
        plain = {old: new for old, new in self._fixed.items() if old not in self._known.nested}
        return next((old for old, new in plain.items() if new not in self._needed and like(name, [new])), None)

    def _optional(self, name: str, match: str) -> list[str]:
        """Of a column that a training can do without: what to add, and the whole text if there is more of it."""
        sentence = (
            f"Without a column {name} every row counts 1; found {shown(match)}: "
            f"add {match}->{name} to rename_columns if it is that."
        )
        whole = f"And with {match} as the {name} it is rename_columns: {_text({**self._fixed, match: name})}"
        return [sentence, whole] if self._fixed else [sentence]

    def _said_otherwise(self, name: str, key: str) -> str:
        """Of a column that ``key`` of the entry names."""
        others = [*self._free, *(new for new in self._fixed.values() if new not in self._needed)]
        match = nearest(name, others) or like(key.removesuffix("_column"), others)
        if match is not None:
            return f"There is no column {shown(name)}; found {shown(match)}: correct {key} to {match}."
        found = _listed(list(rename(self._found, self._fixed)))
        return f"There is no column {shown(name)}; found {found}: say in {key} which of them is meant."

    def _nested(self, name: str, column: str) -> str:
        what = f"{shown(column)} holds {self._known.nested[column]}, and what lies within cannot be renamed"
        plain = "plain ids" if name in ("user_id", "item_id") else "plain values"
        start = "" if column == name else f"There is no plain {name}: "
        return f"{start}{what}: the source must give {plain}{self._known.elsewhere}."

    def _sentence(self, name: str, asked: str | None, match: str | None) -> str:
        wrong = (
            f"rename_columns names {shown(asked)}, which the source does not have; " if asked is not None else ""
        )
        if match is not None:
            advice = f"found {shown(match)}: add {match}->{name} to rename_columns."
        elif (nested := self._nested_match(name, asked)) is not None:
            return f"{wrong}{self._nested(name, nested)}"
        else:
            usable = (one for one in self._free[:MOST_SHOWN] if name != "rating" or self._known.numeric(one))
            first = next(usable, None)
            example = f", like {first}->{name}" if first is not None else ""
            advice = f"found {_listed(self._found)}: say in rename_columns which of them is {name}{example}."
        start = f"{wrong}there is no column {name}; {advice}"
        return start[0].upper() + start[1:] if not wrong else start

    def _nested_match(self, name: str, asked: str | None) -> str | None:
        """The column that is probably ``name``, but holds no plain values; any such one, if there is no other."""
        names = [one for one in islice(self._known.nested, MOST_LOOKED_AT) if one not in self._fixed]
        match = (nearest(asked, names) if asked is not None else None) or like(name, names)
        return match or (names[0] if names and not self._free else None)


def _text(renames: Mapping[str, str]) -> str:
    return ",".join(f"{old}->{new}" for old, new in renames.items())


def _can_be_renamed(name: str) -> bool:
    """Whether ``rename_columns`` can say this name."""
    try:
        return parse_renames(f"{name}->x") == {name: "x"}
    except ValueError:
        return False


def _useless(old: str, new: str, found: Sequence[str]) -> str:
    near = nearest(old, found)
    meant = f"did you mean {shown(near)}?" if near is not None else "nothing reads it: leave it out."
    return f"rename_columns names {shown(old)}, which the source does not have: {meant}"


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(shown(name) for name in islice(names, MOST_SHOWN)) + more
