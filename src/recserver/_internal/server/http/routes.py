"""The HTTP routes: which request calls which operation. They follow from the operations' traits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import get_origin, get_type_hints

from recserver._internal.core.validation.values import Marker
from recserver._internal.server.service import Service
from recserver._internal.server.service.operation import Parameters, Traits, parameters_of, traits_of
from recserver._internal.server.service.services import Operations

PREFIXES = ("", "/api/v1")
"""Every route is served under each of them."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path, and the operation that it calls.

    Attributes:
        operation: the name of a coroutine of the service.
        id_fields: parameters that the query of any request may hold; others of POST and PUT are read from the
            body only.
        list_fields: parameters that are lists, which a query repeats once for each value.
        is_keyed_by_id: whether the keys of the response are ids, so that no ``warnings`` may be added to it.
    """

    method: str
    path: str
    operation: str
    traits: Traits
    parameters: Parameters
    id_fields: frozenset[str]
    list_fields: frozenset[str]
    is_keyed_by_id: bool

    @property
    def is_cacheable(self) -> bool:
        """Whether the same URL gets the same response as long as the serving version stays the same."""
        return self.method == "GET" and self.traits.cacheable


GROUPS: Sequence[type[Operations]] = [kind for kind in Service.__bases__ if issubclass(kind, Operations)]
"""The groups of operations."""


def _routes() -> Iterator[Route]:
    for group in GROUPS:
        for name, function in vars(group).items():
            traits = traits_of(function)
            if traits is None:
                continue
            parameters, result = parameters_of(function), get_type_hints(function).get("return", NoneType)
            ids, lists = parameters.marked(Marker.ID), parameters.marked(Marker.LIST)
            for path in ("", *traits.paths):
                for method in traits.methods[:1] if path else traits.methods:
                    is_keyed_by_id = get_origin(result) is dict
                    yield Route(method, f"/{name}{path}", name, traits, parameters, ids, lists, is_keyed_by_id)


ROUTES = tuple(_routes())
