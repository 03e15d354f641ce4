"""The entry of a REST chef: URL, pagination, credentials, and the path of the rows."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from recserver._internal.chefs.chef_entry import ChefEntry, has_reference
from recserver._internal.chefs.rest.entry_types import (
    Concurrency,
    EntryPart,
    HeaderName,
    HeaderValue,
    Parameter,
    SelectorPath,
    StrictText,
    check_header_name,
    check_type_key,
    require_text,
)
from recserver._internal.chefs.rest.paginators import LinkedPaginator, NumberedPaginator, PageNumber, Paginator
from recserver._internal.core.errors import quoted
from recserver._internal.core.validation.values import Bool, PageSize, Text


class Bearer(EntryPart):
    """``Authorization: Bearer …``"""

    type: Literal["bearer"]
    token: HeaderValue = Field(repr=False)

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class ApiKey(EntryPart):
    """A key in a header, by default ``X-API-Key``."""

    type: Literal["api_key"]
    key: HeaderValue = Field(repr=False)
    header: HeaderName = "X-API-Key"

    def headers(self) -> dict[str, str]:
        return {self.header: self.key}


def _check_username(value: str) -> str:
    if ":" in value and not has_reference(value):
        raise ValueError("must not contain a colon")
    return value


class Basic(EntryPart):
    """``Authorization: Basic …``"""

    type: Literal["basic"]
    username: Annotated[HeaderValue, AfterValidator(_check_username)]
    password: HeaderValue = Field(repr=False)

    def headers(self) -> dict[str, str]:
        pair = f"{self.username}:{self.password}".encode()
        return {"Authorization": f"Basic {b64encode(pair).decode()}"}


Auth = Annotated[
    Bearer | ApiKey | Basic,
    Field(discriminator="type"),
    BeforeValidator(check_type_key("bearer", "api_key", "basic")),
]


def _check_headers(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError("must be an object whose values are text")
    if len(value) > 50:
        raise ValueError("must have at most 50 headers")
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"the name {quoted(name)} must be text: put it in quotes")
        check_header_name(name)
    return value


class ApiEntry(ChefEntry):
    """The keys of an entry of a REST chef. ``page_param``, ``size_param`` and ``page_size`` need ``paginated``."""

    url: Annotated[Text, BeforeValidator(require_text)]
    paginated: Bool = False
    page_param: Parameter = "page"
    size_param: Parameter = "size"
    page_size: PageSize = 100
    paginator: Paginator | None = None
    """Pagination of another kind than ``paginated``."""
    data_selector: SelectorPath | None = None
    """The dotted path of the rows in a response."""
    auth: Auth | None = None
    headers: Annotated[dict[StrictText, HeaderValue], BeforeValidator(_check_headers)] = Field(
        default_factory=dict, repr=False
    )
    concurrent_pages: Concurrency = 4
    """Numbered pages that are fetched concurrently."""

    @model_validator(mode="after")
    def _check_pagination(self) -> Self:
        if self.paginated and self.paginator is not None:
            raise ValueError("paginated and paginator exclude each other: give one")
        keys = self.paginator.parameter_keys if self.paginator else PageNumber.parameter_keys
        if len({getattr(self.paginator or self, key) for key in keys}) < len(keys):
            raise ValueError("two query parameters of the pagination have the same name: rename one")
        return self

    @property
    def effective_paginator(self) -> NumberedPaginator | LinkedPaginator | None:
        """The paginator; None for a source with a single response."""
        if not self.paginated:
            return self.paginator
        return PageNumber(
            type="page_number", page_param=self.page_param, size_param=self.size_param, page_size=self.page_size
        )

    def request_headers(self) -> dict[str, str]:
        """Headers for requests to the source's own origin; no other origin gets them."""
        return {**self.headers, **(self.auth.headers() if self.auth else {})}
