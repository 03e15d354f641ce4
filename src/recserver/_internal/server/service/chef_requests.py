"""Definitions of data chefs in requests, and the entries of ``restaurant_data.yaml`` that they become."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any, Required, get_type_hints

from pydantic import AfterValidator, ConfigDict, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # that of typing will do from Python 3.12 on

from recserver._internal.chefs.lookup import load_chef_class
from recserver._internal.chefs.rename_columns import RenameColumns, canonical_renames
from recserver._internal.chefs.row_rules import ColumnName, EventWeights, HalfLife, Weight
from recserver._internal.chefs.secrets import mask_entry
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import FieldError, InvalidInput, RecServerError, quoted
from recserver._internal.core.validation.messages import field_errors
from recserver._internal.core.validation.values import Bool, JsonObject, PageSize, Text, WholeNumber
from recserver._internal.server.service.chef_key_warnings import key_warnings


def _parameter_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.\[\]-]{1,100}", value):
        raise ValueError("must be the name of a query parameter: 1 to 100 of A-Z a-z 0-9 _ . - [ ]")
    return value


ParameterName = Annotated[str, StringConstraints(strict=True), AfterValidator(_parameter_name)]

_STRICT = ConfigDict(extra="forbid")


class RowsDefinition(TypedDict, total=False):
    """Fields that data chefs of every type have: see :class:`recserver._internal.chefs.row_rules.RowRules`."""

    rename_columns: RenameColumns
    """New names of columns: ``customer->user_id,product->item_id``, or an object."""
    constant_rating: Weight
    """The rating of every row; ratings in the source are ignored."""
    event_column: ColumnName
    """The column with the type of event, ``event`` by default. Read only with ``event_weights``."""
    event_weights: EventWeights
    """Event and its weight, used as rating. Rows with other events are rejected."""
    timestamp_column: ColumnName
    """The column with the time of the event."""
    half_life_days: HalfLife
    """Half-life of weights in days: a row's age is measured from the newest row of the source."""
    repeated_pairs: Text
    """The rating of a pair that occurs in several rows: ``sum``, ``last``, ``max`` or ``first``."""


@with_config(_STRICT)
class CsvDefinition(RowsDefinition, total=False):
    """A file. Its format is detected unless it is given."""

    file_path: Required[Text]
    """The file; a relative path begins at the data folder."""
    format: Text
    """``csv``, ``jsonl``, ``parquet`` and others: see the documentation of data chefs."""
    compression: Text
    """``none``, ``gzip``, ``bz2``, ``xz`` or ``zstd``."""
    delimiter: Text
    """One character."""
    encoding: Text
    """UTF-8 by default, or another one such as ``cp1252``."""


@with_config(_STRICT)
class SqlDefinition(RowsDefinition, total=False):
    """The rows of a SELECT; from the default database unless ``db_config`` or ``connection`` is given."""

    query: Required[Text]
    """One statement that only reads."""
    db_config: JsonObject
    """``type`` (such as ``postgresql``), ``host``, ``port``, ``user``, ``password``, ``database``."""
    connection: Text
    """URL of the database, instead of ``db_config``."""


@with_config(_STRICT)
class ApiDefinition(RowsDefinition, total=False):
    """JSON over HTTP. ``pagination_param``, ``size_param`` and ``size_value`` are used only if ``paginated``."""

    url: Required[Text]
    """The address, ``http`` or ``https``."""
    paginated: Bool
    """Whether the rows are on numbered pages; default false."""
    pagination_param: ParameterName
    """The parameter of the page's number, ``page`` by default."""
    size_param: ParameterName
    """The parameter of the number of rows on a page, ``size`` by default."""
    size_value: PageSize
    """Rows on a page; default 100."""
    paginator: JsonObject
    """Another kind of pages, such as ``{"type": "cursor"}``: see the documentation of data chefs."""
    data_selector: Text
    """The path of the rows in a response, with dots between names."""
    auth: JsonObject
    """Credentials: ``type`` (``bearer``, ``api_key`` or ``basic``), and its fields."""
    headers: JsonObject
    """Additional headers of requests."""
    concurrent_pages: WholeNumber
    """Numbered pages that are fetched at once, 1 to 16; default 4."""


DEFINITIONS: dict[str, Any] = {"csv": CsvDefinition, "sql": SqlDefinition, "api": ApiDefinition}
"""Types of data chefs that requests can create, with their fields."""

REQUEST_NAMES = {"path": "file_path", "page_param": "pagination_param", "page_size": "size_value"}
"""Key of an entry → its name in requests."""

ENTRY_KEYS = {name: key for key, name in REQUEST_NAMES.items()}

DEFINITION_ALIASES: dict[str, dict[str, str]] = {
    "csv": {"path": "file_path"},
    "sql": {},
    "api": {**REQUEST_NAMES, "api_endpoint": "url"},
}
"""Other names of fields in a definition to be validated: an entry can be sent as it is listed."""

DISPLAY_KEYS = ("error", "warnings")
"""Keys that :func:`display_entry` adds to an entry."""

PAGE_DEFAULTS = {"page_param": "page", "size_param": "size", "page_size": 100}


def to_entry(kind: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a definition: its fields under the names of the entry's keys, and the keys of every entry."""
    values = {ENTRY_KEYS.get(name, name): _plain_value(value) for name, value in definition.items()}
    entry = {"type": kind, "rename_columns": ""} | values
    if kind == "api":
        pages = {name: entry.pop(name, default) for name, default in PAGE_DEFAULTS.items()}
        entry = {"paginated": False} | entry
        entry |= pages if entry["paginated"] else {}
    return entry


def _plain_value(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def read_definition(kind: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Validate a definition whose fields may have any of their names.

    Returns:
        The entry; key of the entry → its name in the request; fields of the request that the type does not have.

    Raises:
        InvalidInput: naming every field that is missing or invalid as it was given.
    """
    aliases, known = DEFINITION_ALIASES[kind], fields_of(kind)
    names: dict[str, str] = {}
    for name in request:
        field = name if name in known else aliases.get(name, name)
        if request[names.setdefault(field, name)] != request[name]:
            raise InvalidInput.of(name, f"is given as {quoted(names[field])} too, and differs: give it once")
    try:
        values = {field: request[name] for field, name in names.items() if field in known}
        entry = to_entry(kind, _adapter(kind).validate_python(values))
    except ValidationError as error:
        raise with_request_names(InvalidInput.of_fields(field_errors(error)), names) from None
    entry_names = REQUEST_NAMES | {ENTRY_KEYS.get(field, field): name for field, name in names.items()}
    return entry, entry_names, [name for field, name in names.items() if field not in known]


def fields_of(kind: str) -> list[str]:
    """The fields of a definition."""
    return list(get_type_hints(DEFINITIONS[kind]))


@cache
def _adapter(kind: str) -> TypeAdapter[dict[str, Any]]:
    return TypeAdapter(DEFINITIONS[kind])


def with_request_names(error: InvalidInput, names: Mapping[str, str] = REQUEST_NAMES) -> InvalidInput:
    """``error`` with its fields under the names that the request used.

    Args:
        names: name of a field in ``error`` → its name in the request.
    """
    problems = [
        FieldError((*(names.get(name, name) for name in one.loc[:1]), *one.loc[1:]), one.msg)
        for one in error.errors
    ]
    return InvalidInput.of_fields(problems) if problems else error


def display_entry(entry: Mapping[str, Any], policy: SourcePolicy) -> dict[str, Any]:
    """A stored entry with its type in lower case and its secrets masked, and with its warnings and its error."""
    kind = str(entry.get("type") or "").lower()
    entry = {key: value for key, value in entry.items() if value is not None}
    warnings = key_warnings(entry)
    entry["type"] = "messaging_queue" if kind == "messaging" else kind or "unknown"
    with contextlib.suppress(ValueError):  # the chef reports it
        entry["rename_columns"] = canonical_renames(entry.get("rename_columns"))
    if kind == "api":
        entry.setdefault("paginated", False)
    displayed = mask_entry(entry) | ({"warnings": warnings} if warnings else {})
    try:
        load_chef_class(kind)(entry, policy)
    except RecServerError as error:
        displayed["error"] = str(error)
    return displayed
