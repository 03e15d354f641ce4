"""Hints for a data chef whose source lacks a column: similar names, and the corrected ``rename_columns``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from recserver._internal.chefs.rename_columns import parse_renames, renamed_columns
from recserver._internal.chefs.row_rules import RowRules
from recserver._internal.core.errors import quoted
from recserver._internal.training.ingest.column_matching import closest_name, matching_column

MAX_NAMES_SHOWN = 20
"""Column names that a sentence lists."""

MAX_NAMES_EXAMINED = 10_000
"""Column names that are examined: a source may have a million."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of a source besides the names of its columns.

    Attributes:
        nested: column to what its values are, such as ``objects (id, name)``, for columns without plain values.
        is_numeric: whether the values of a column are numbers; True if unknown.
        duplicate_hint: how to rename one of two columns of the same name.
        nested_hint: the end of the sentence about nested values; "" if there is none.
    """

    nested: Mapping[str, str] = field(default_factory=dict)
    is_numeric: Callable[[str], bool] = lambda _: True
    duplicate_hint: str = "give one of them another name there"
    nested_hint: str = ""


NO_FACTS = SourceFacts()


def column_hints(column_names: Sequence[str], rules: RowRules, facts: SourceFacts = NO_FACTS) -> list[str]:
    """What to change so that every needed column is there, a sentence each; empty if nothing is missing.

    Args:
        column_names: of the source.
        rules: of the data chef's entry.
        facts: what else is known of the source.
    """
    if duplicates := duplicate_columns(column_names, rules):
        return [
            f"The source has two columns named {quoted(one)}: {facts.duplicate_hint}."
            for one in duplicates.values()
        ]
    return _ColumnHints(column_names, rules, facts).build() if column_names else []


def missing_columns(column_names: Sequence[str], rules: RowRules) -> list[str]:
    """The required columns that a source lacks."""
    present = renamed_columns(column_names, rules.renames)
    return [name for name, is_required in rules.required_columns().items() if is_required and name not in present]


def duplicate_columns(column_names: Sequence[str], rules: RowRules) -> dict[str, str]:
    """Required column to its name in the source, for names that several columns of the source have."""
    needed = rules.required_columns()
    columns = renamed_columns(column_names, rules.renames)
    return {new: old for new, old in columns.items() if new in needed and column_names.count(old) > 1}


class _ColumnHints:
    """Builds the hints of one source, column by column."""

    def __init__(self, column_names: Sequence[str], rules: RowRules, facts: SourceFacts) -> None:
        self._column_names, self._facts = column_names, facts
        self._renames, self._needed = rules.renames, rules.required_columns()
        optional_columns = {"event_column": rules.event_column, "timestamp_column": rules.timestamp_column}
        self._entry_keys = {
            name: key for key, name in optional_columns.items() if name is not None and name in self._needed
        }
        present = set(column_names)
        self._missing_renames = {new: old for old, new in self._renames.items() if old not in present}
        self._corrected_renames = {old: new for old, new in self._renames.items() if old in present}
        self._candidates = [
            name
            for name in column_names[:MAX_NAMES_EXAMINED]
            if name not in self._corrected_renames and name not in self._needed and name not in facts.nested
            if _can_be_renamed(name)
        ]
        self._required_hints: list[str] = []
        self._optional_hints: list[str] = []

    def build(self) -> list[str]:
        """Required changes, the corrected ``rename_columns``, optional changes, and renames without effect."""
        for name, is_required in self._needed.items():
            columns = renamed_columns(self._column_names, self._corrected_renames)
            if name not in columns:
                self._check_column(name, is_required, self._missing_renames.get(name))
            elif is_required and columns[name] in self._facts.nested:
                self._required_hints.append(self._nested_hint(name, columns[name]))
        if self._required_hints and self._corrected_renames and self._corrected_renames != self._renames:
            self._required_hints.append(f"Corrected rename_columns: {_renames_text(self._corrected_renames)}")
        unused = [
            _unused_rename_hint(old, new, self._column_names)
            for new, old in self._missing_renames.items()
            if new not in self._needed
        ]
        return [*self._required_hints, *self._optional_hints, *unused]

    def _check_column(self, name: str, required: bool, renamed_from: str | None) -> None:
        """Add the hint for a missing column.

        Args:
            renamed_from: the column that ``rename_columns`` names for it, which is missing as well.
        """
        if name in self._entry_keys and renamed_from is None:
            self._required_hints.append(self._entry_key_hint(name, self._entry_keys[name]))
            return
        misnamed = self._find_misnamed(name) if required and renamed_from is None else None
        if misnamed is not None:
            self._required_hints.append(
                f"There is no column {name}; rename_columns makes {quoted(self._corrected_renames[misnamed])} of "
                f"{quoted(misnamed)}: write {misnamed}->{name} there."
            )
            self._corrected_renames[misnamed] = name
            return
        match = self._find_match(name, renamed_from)
        if match is not None and not (required or renamed_from):
            self._optional_hints += self._optional_hint(name, match)
            return
        if match is not None:
            self._candidates.remove(match)
            self._corrected_renames[match] = name
        if renamed_from is not None or required:
            self._required_hints.append(self._missing_hint(name, renamed_from, match))

    def _find_match(self, name: str, renamed_from: str | None) -> str | None:
        """The column that is probably ``name``: similar to the name in ``rename_columns``, or a synonym."""
        free = list(self._candidates)
        while True:
            match = (closest_name(renamed_from, free) if renamed_from is not None else None) or matching_column(
                name, free
            )
            if match is None or name != "rating" or self._facts.is_numeric(match):
                return match
            free.remove(match)

    def _find_misnamed(self, name: str) -> str | None:
        """The column that is renamed to something that only resembles ``name``."""
        plain = {old: new for old, new in self._corrected_renames.items() if old not in self._facts.nested}
        return next(
            (old for old, new in plain.items() if new not in self._needed and matching_column(name, [new])), None
        )

    def _optional_hint(self, name: str, match: str) -> list[str]:
        """The hints for an optional column: what to add, and the complete ``rename_columns`` if it has more."""
        sentence = (
            f"Without a column {name} every row counts 1; found {quoted(match)}: "
            f"add {match}->{name} to rename_columns if it is that."
        )
        renames = _renames_text({**self._corrected_renames, match: name})
        complete = f"With {match} as the {name}, rename_columns: {renames}"
        return [sentence, complete] if self._corrected_renames else [sentence]

    def _entry_key_hint(self, name: str, key: str) -> str:
        """The hint for a missing column that ``key`` of the entry names."""
        others = [*self._candidates, *(new for new in self._corrected_renames.values() if new not in self._needed)]
        match = closest_name(name, others) or matching_column(key.removesuffix("_column"), others)
        if match is not None:
            return f"There is no column {quoted(name)}; found {quoted(match)}: correct {key} to {match}."
        found = list_names(list(renamed_columns(self._column_names, self._corrected_renames)))
        return f"There is no column {quoted(name)}; found {found}: set {key} to the right one."

    def _nested_hint(self, name: str, column: str) -> str:
        what = f"{quoted(column)} holds {self._facts.nested[column]}, and nested values cannot be renamed"
        plain = "plain ids" if name in ("user_id", "item_id") else "plain values"
        start = "" if column == name else f"There is no plain {name}: "
        return f"{start}{what}: the source must give {plain}{self._facts.nested_hint}."

    def _missing_hint(self, name: str, renamed_from: str | None, match: str | None) -> str:
        prefix = (
            f"rename_columns names {quoted(renamed_from)}, which the source does not have; "
            if renamed_from is not None
            else ""
        )
        if match is not None:
            advice = f"found {quoted(match)}: add {match}->{name} to rename_columns."
        elif (nested := self._find_nested_match(name, renamed_from)) is not None:
            return f"{prefix}{self._nested_hint(name, nested)}"
        else:
            usable = (
                one
                for one in self._candidates[:MAX_NAMES_SHOWN]
                if name != "rating" or self._facts.is_numeric(one)
            )
            first = next(usable, None)
            example = f", like {first}->{name}" if first is not None else ""
            advice = (
                f"found {list_names(self._column_names)}: name in rename_columns the one that is {name}{example}."
            )
        start = f"{prefix}there is no column {name}; {advice}"
        return start[0].upper() + start[1:] if not prefix else start

    def _find_nested_match(self, name: str, renamed_from: str | None) -> str | None:
        """The column that is probably ``name`` but has nested values; any nested one, if there are no others."""
        names = [
            one for one in islice(self._facts.nested, MAX_NAMES_EXAMINED) if one not in self._corrected_renames
        ]
        match = (closest_name(renamed_from, names) if renamed_from is not None else None) or matching_column(
            name, names
        )
        return match or (names[0] if names and not self._candidates else None)


def _renames_text(renames: Mapping[str, str]) -> str:
    return ",".join(f"{old}->{new}" for old, new in renames.items())


def _can_be_renamed(name: str) -> bool:
    """Whether this name can be written in ``rename_columns``."""
    try:
        return parse_renames(f"{name}->x") == {name: "x"}
    except ValueError:
        return False


def _unused_rename_hint(old: str, new: str, column_names: Sequence[str]) -> str:
    closest = closest_name(old, column_names)
    advice = f"did you mean {quoted(closest)}?" if closest is not None else "nothing reads it: leave it out."
    return f"rename_columns names {quoted(old)}, which the source does not have: {advice}"


def list_names(names: Collection[str]) -> str:
    """Names for a sentence, quoted; at most :data:`MAX_NAMES_SHOWN`."""
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(quoted(name) for name in islice(names, MAX_NAMES_SHOWN)) + more
