"""The error responses of operations: the errors of their docstrings, and those of every route."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any

from recserver._internal.core import errors
from recserver._internal.core.errors import RecServerError

OF_EVERY_ROUTE: tuple[type[RecServerError], ...] = (
    errors.MalformedJson,
    errors.Unauthorized,
    errors.HostNotAllowed,
    errors.OriginNotAllowed,
    errors.InvalidInput,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    RecServerError,
    errors.Draining,
    errors.WriterUnavailable,
    errors.StorageUnreadable,
)
"""Errors of every route; any request may have a body."""


def common_responses() -> dict[str, Any]:
    """The responses that many routes have in common, by the names that :func:`error_responses` refers to."""
    codes = _by_status(OF_EVERY_ROUTE)
    return {_name(status): _response(dict.fromkeys(ones, "")) for status, ones in codes.items()}


def error_responses(raised: Mapping[str, str], *, makes_changes: bool) -> dict[str, Any]:
    """The error responses of an operation, by status.

    Args:
        raised: names of classes of errors, separated by commas, and when they are raised.
        makes_changes: whether a read-only server refuses it.
    """
    common = _by_status(OF_EVERY_ROUTE)
    own: dict[int, dict[str, str]] = {}
    for names, condition in raised.items():
        for name in names.split(","):
            kind: type[RecServerError] = getattr(errors, name.strip())
            own.setdefault(kind.status, {}).setdefault(kind.code, condition)
    if makes_changes:
        own.setdefault(errors.ReadOnly.status, {})[errors.ReadOnly.code] = "if the server is read-only."
    responses: dict[str, Any] = {}
    for status in sorted(common.keys() | own.keys()):
        if status in own:
            conditions = own[status] | {code: "" for code in common.get(status, ()) if code not in own[status]}
            responses[str(status)] = _response(conditions)
        else:
            responses[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
    return responses


def _by_status(kinds: Collection[type[RecServerError]]) -> dict[int, list[str]]:
    codes: dict[int, list[str]] = {}
    for kind in kinds:
        codes.setdefault(kind.status, []).append(kind.code)
    return codes


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.replace(" ", "")


def _response(conditions: Mapping[str, str]) -> dict[str, Any]:
    """A response.

    Args:
        conditions: its codes, and when each is sent; empty if that is plain.
    """
    lines = [f"`{code}` {condition}".strip() for code, condition in conditions.items()]
    schema = {
        "allOf": [
            {"$ref": "#/components/schemas/ErrorResponse"},
            {"properties": {"code": {"enum": list(conditions)}}},
        ]
    }
    return {
        "description": "; ".join(line.removesuffix(".") for line in lines) + ".",
        "content": {"application/json": {"schema": schema}},
    }
