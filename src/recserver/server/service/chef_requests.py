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

from recserver.chefs.lookup import load_chef_class
from recserver.chefs.rename_columns import RenameColumns, canonical_renames
from recserver.chefs.row_rules import ColumnName, EventWeights, HalfLife, Weight
from recserver.chefs.secrets import mask_entry
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.errors import FieldError, InvalidInput, RecServerError, quoted
from recserver.core.validation.messages import field_errors
from recserver.core.validation.values import Bool, JsonObject, PageSize, Text, WholeNumber
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
    db_config: JsonObject
    connection: Text


@with_config(_STRICT)
class ApiDefinition(RowsDefinition, total=False):
    """JSON over HTTP. ``pagination_param``, ``size_param`` and ``size_value`` count only if ``paginated``."""

    url: Required[Text]
    paginated: Bool
    pagination_param: ParameterName
    size_param: ParameterName
    size_value: PageSize
    paginator: JsonObject
    data_selector: Text
    auth: JsonObject
    headers: JsonObject
    concurrent_pages: WholeNumber


DEFINITIONS: dict[str, Any] = {"csv": CsvDefinition, "sql": SqlDefinition, "api": ApiDefinition}
"""Types that requests can create, and what says what they need."""

REQUEST_NAMES = {"path": "file_path", "page_param": "pagination_param", "page_size": "size_value"}
"""Keys of an entry, and what requests call them."""

ENTRY_KEYS = {asked: key for key, asked in REQUEST_NAMES.items()}

DEFINITION_ALIASES: dict[str, dict[str, str]] = {
    "csv": {"path": "file_path"},
    "sql": {},
    "api": {**REQUEST_NAMES, "api_endpoint": "url"},
}
"""Other names under which a definition to be checked may give a field: an entry can be sent as it is shown."""

DISPLAY_KEYS = ("error", "warnings")
"""What :func:`entry_shown` adds to an entry."""

PAGE_DEFAULTS = {"page_param": "page", "size_param": "size", "page_size": 100}


def to_entry(kind: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """The entry that a definition becomes: what was given, and what every entry of its type has."""
    given = {ENTRY_KEYS.get(name, name): _plain_value(value) for name, value in definition.items()}
    entry = {"type": kind, "rename_columns": ""} | given
    if kind == "api":
        pages = {name: entry.pop(name, default) for name, default in PAGE_DEFAULTS.items()}
        entry = {"paginated": False} | entry
        entry |= pages if entry["paginated"] else {}
    return entry


def _plain_value(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


@dataclass(frozen=True, slots=True)
class CheckedDefinition:
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


def check_definition(kind: str, given: Mapping[str, Any]) -> CheckedDefinition:
    """A definition that may have come under any names that its fields are known by.

    Raises:
        InvalidInput: naming every field that is missing or wrong as it was given.
    """
    aliases = DEFINITION_ALIASES.get(kind, {})
    known = get_type_hints(DEFINITIONS[kind])
    names: dict[str, str] = {}
    for name in given:
        proper = name if name in known else aliases.get(name, name)
        if given[names.setdefault(proper, name)] != given[name]:
            raise InvalidInput.of(name, f"is given as {quoted(names[proper])} too, and differs: give it once")
    try:
        taken = {proper: given[name] for proper, name in names.items() if proper in known}
        definition = _adapter(kind).validate_python(taken)
    except ValidationError as error:
        raise with_request_names(InvalidInput.of_fields(field_errors(error)), names) from None
    ignored = [name for proper, name in names.items() if proper not in known]
    stored = {ENTRY_KEYS.get(proper, proper): name for proper, name in names.items()}
    return CheckedDefinition(to_entry(kind, definition), REQUEST_NAMES | stored, ignored, list(known))


@cache
def _adapter(kind: str) -> TypeAdapter[dict[str, Any]]:
    return TypeAdapter(DEFINITIONS[kind])


def with_request_names(error: InvalidInput, names: Mapping[str, str] = REQUEST_NAMES) -> InvalidInput:
    """``error`` with its faults under the names that the request used.

    Args:
        names: what the faults are called, and what the request called it.
    """
    faults = [
        FieldError((*(names.get(name, name) for name in one.loc[:1]), *one.loc[1:]), one.msg)
        for one in error.errors
    ]
    return InvalidInput.of_fields(faults) if faults else error


def display_entry(entry: Mapping[str, Any], policy: SourcePolicy) -> dict[str, Any]:
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
        load_chef_class(kind)(entry, policy)
    except RecServerError as error:
        return mask_entry(entry) | ({"warnings": warnings} if warnings else {}) | {"error": str(error)}
    return mask_entry(entry) | ({"warnings": warnings} if warnings else {})
