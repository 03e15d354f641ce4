"""What requests say of a data chef, and the entry of ``restaurant_data.yaml`` that it becomes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Required, get_type_hints

from pydantic import AfterValidator, ConfigDict, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # that of typing will do from Python 3.12 on

from recserver.chefs.lookup import chef_class
from recserver.chefs.rename_columns import RenameColumns, canonical_renames
from recserver.chefs.row_rules import ColumnName, EventWeights, HalfLife, Weight
from recserver.chefs.secrets import mask_entry
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.errors import FieldError, InvalidInput, RecServerError, shown
from recserver.core.validation.messages import field_errors, in_words
from recserver.core.validation.values import PageSize, PlainObject, Switch, Text, WholeNumber
from recserver.server.service.unknown_chef_keys import key_warnings


def _parameter_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.\[\]-]{1,100}", value):
        raise ValueError("must be the name of a query parameter: 1 to 100 of A-Z a-z 0-9 _ . - [ ]")
    return value


ParameterName = Annotated[str, StringConstraints(strict=True), AfterValidator(_parameter_name)]

_STRICT = ConfigDict(extra="forbid")


class RowsDefinition(TypedDict, total=False):
    """What a data chef of any type may be told about its rows: see :class:`recserver.chefs.row_rules.RowRules`."""

    rename_columns: RenameColumns
    constant_rating: Weight
    event_column: ColumnName
    event_weights: EventWeights
    timestamp_column: ColumnName
    half_life_days: HalfLife
    repeated_pairs: Text


@with_config(_STRICT)
class CsvDefinition(RowsDefinition, total=False):
    """A file. What is not given is detected."""

    file_path: Required[Text]
    format: Text
    compression: Text
    delimiter: Text
    encoding: Text


@with_config(_STRICT)
class SqlDefinition(RowsDefinition, total=False):
    """The rows of one SELECT; with neither ``db_config`` nor ``connection``, from the default database."""

    query: Required[Text]
    db_config: PlainObject
    connection: Text


@with_config(_STRICT)
class ApiDefinition(RowsDefinition, total=False):
    """JSON over HTTP. ``pagination_param``, ``size_param`` and ``size_value`` count only if ``paginated``."""

    url: Required[Text]
    paginated: Switch
    pagination_param: ParameterName
    size_param: ParameterName
    size_value: PageSize
    paginator: PlainObject
    data_selector: Text
    auth: PlainObject
    headers: PlainObject
    concurrent_pages: WholeNumber


DEFINITIONS: dict[str, Any] = {"csv": CsvDefinition, "sql": SqlDefinition, "api": ApiDefinition}
"""Types that requests can create, and what says what they need."""

ASKED_AS = {"path": "file_path", "page_param": "pagination_param", "page_size": "size_value"}
"""Keys of an entry, and what requests call them."""

STORED_AS = {asked: key for key, asked in ASKED_AS.items()}

ALSO_ASKED_AS: dict[str, dict[str, str]] = {
    "csv": {"path": "file_path"},
    "sql": {},
    "api": {**ASKED_AS, "api_endpoint": "url"},
}
"""Other names under which a definition to be checked may give a field: an entry can be sent as it is shown."""

SHOWN_WITH = ("error", "warnings")
"""What :func:`entry_shown` adds to an entry."""

PAGES = {"page_param": "page", "size_param": "size", "page_size": 100}


def entry_of(kind: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """The entry that a definition becomes: what was given, and what every entry of its type has."""
    given = {STORED_AS.get(name, name): _storable(value) for name, value in definition.items()}
    entry = {"type": kind, "rename_columns": ""} | given
    if kind == "api":
        pages = {name: entry.pop(name, default) for name, default in PAGES.items()}
        entry = {"paginated": False} | entry
        entry |= pages if entry["paginated"] else {}
    return entry


def _storable(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


@dataclass(frozen=True, slots=True)
class Checked:
    """A definition of a type that requests can create.

    Attributes:
        entry: what it becomes.
        names: key of the entry → what the request called it.
        ignored: fields of the request that mean nothing to this type.
        fields: what this type knows.
    """

    entry: dict[str, Any]
    names: dict[str, str]
    ignored: list[str]
    fields: list[str]


def checked(kind: str, given: Mapping[str, Any]) -> Checked:
    """A definition that may have come under any names that its fields are known by.

    Raises:
        InvalidInput: naming every field that is missing or wrong as it was given.
    """
    aliases = ALSO_ASKED_AS.get(kind, {})
    known = get_type_hints(DEFINITIONS[kind])
    names: dict[str, str] = {}
    for name in given:
        proper = name if name in known else aliases.get(name, name)
        if given[names.setdefault(proper, name)] != given[name]:
            problem = FieldError((name,), f"is given as {shown(names[proper])} too, and differs: give it once")
            raise InvalidInput(in_words(problem) + ".", [problem])
    try:
        taken = {proper: given[name] for proper, name in names.items() if proper in known}
        definition = _adapter(kind).validate_python(taken)
    except ValidationError as error:
        raise as_asked(InvalidInput("", field_errors(error)), names) from None
    ignored = [name for proper, name in names.items() if proper not in known]
    stored = {STORED_AS.get(proper, proper): name for proper, name in names.items()}
    return Checked(entry_of(kind, definition), ASKED_AS | stored, ignored, list(known))


@cache
def _adapter(kind: str) -> TypeAdapter[dict[str, Any]]:
    return TypeAdapter(DEFINITIONS[kind])


def as_asked(error: InvalidInput, names: Mapping[str, str] = ASKED_AS) -> InvalidInput:
    """``error`` with its faults under the names that the request used.

    Args:
        names: what the faults are called, and what the request called it.
    """
    faults = [
        FieldError((*(names.get(name, name) for name in one.loc[:1]), *one.loc[1:]), one.msg)
        for one in error.errors
    ]
    return InvalidInput("; ".join(in_words(one) for one in faults) + ".", faults) if faults else error


def entry_shown(entry: Mapping[str, Any], policy: SourcePolicy) -> dict[str, Any]:
    """An entry as stored, its type in lower case, without secrets, and with what is wrong with it."""
    kind = str(entry.get("type") or "").lower()
    entry = {key: value for key, value in entry.items() if value is not None}
    warnings = key_warnings(entry)
    entry["type"] = "messaging_queue" if kind == "messaging" else kind or "unknown"
    with contextlib.suppress(ValueError):  # the chef itself says what is wrong with them
        entry["rename_columns"] = canonical_renames(entry.get("rename_columns"))
    if kind == "api":
        entry.setdefault("paginated", False)
    try:
        chef_class(kind)(entry, policy)
    except RecServerError as error:
        return mask_entry(entry) | ({"warnings": warnings} if warnings else {}) | {"error": str(error)}
    return mask_entry(entry) | ({"warnings": warnings} if warnings else {})
