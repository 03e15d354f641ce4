"""What the entry of a REST chef may say: pages, credentials, where the rows are."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from recserver.chefs.chef_entry import ChefEntry, has_reference
from recserver.core.errors import quoted
from recserver.core.validation.values import Bool, PageSize, Text, unicode_text, whole_number

MAX_CONCURRENT_PAGES = 16
MAX_SELECTOR_DEPTH = 8

RESERVED_HEADERS = frozenset(
    {
        "accept-encoding", "connection", "content-length", "content-type", "expect", "host", "keep-alive", "te",
        "trailer", "transfer-encoding", "upgrade", "if-none-match", "if-modified-since", "range",
    }
)  # fmt: skip
"""Headers that are ours to set."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


def _require_text(value: object) -> str:
    """Text as it is. YAML makes numbers, truth values and days of what is not in quotes."""
    if isinstance(value, str):
        return unicode_text(value)
    raise ValueError("must be text" if isinstance(value, dict | list) else "must be text: put it in quotes")


def _length_between(min_length: int, max_length: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not min_length <= len(value) <= max_length:
            raise ValueError(
                f"must have {f'{min_length} to' if min_length else 'at most'} {max_length} characters"
            )
        return value

    return check


def _check_discriminator(*types: str) -> Callable[[object], object]:
    """Lets pass what is an object of one of these types; the rest of it is judged later."""
    allowed = f"{', '.join(types[:-1])} or {types[-1]}"

    def check(value: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError(f"must be an object with a type, which is {allowed}")
        if value.get("type") not in types:
            raise ValueError(f"its type must be {allowed}")
        return value

    return check


def _check_parameter(value: str) -> str:
    if any(ord(letter) < 32 for letter in value):
        raise ValueError("must hold no control characters")
    return value


def _check_header_value(value: str) -> str:
    if any(letter in "\r\n\0" for letter in value):
        raise ValueError("must hold no line ends")
    return value


def _check_header_name(value: str) -> str:
    if not _TOKEN.fullmatch(value) or value.lower() in RESERVED_HEADERS:
        raise ValueError(f"{quoted(value)} is no header that can be set here")
    return value


def _check_path(value: str) -> str:
    parts = value.split(".")
    if not all(parts) or len(parts) > MAX_SELECTOR_DEPTH:
        raise ValueError("must be names with dots between, such as data.items")
    return value


def _check_concurrency(value: object) -> int:
    number = whole_number(value)
    if not 1 <= number <= MAX_CONCURRENT_PAGES:
        raise ValueError(f"must be a whole number from 1 to {MAX_CONCURRENT_PAGES}")
    return number


def _check_first_page(value: object) -> int:
    number = whole_number(value)
    if not 0 <= number <= 1_000_000:
        raise ValueError("must be a whole number from 0 to 1000000")
    return number


StrictText = Annotated[str, BeforeValidator(_require_text)]
Parameter = Annotated[StrictText, AfterValidator(_length_between(1, 100)), AfterValidator(_check_parameter)]
HeaderName = Annotated[StrictText, AfterValidator(_check_header_name)]
HeaderValue = Annotated[StrictText, AfterValidator(_length_between(0, 8000)), AfterValidator(_check_header_value)]
SelectorPath = Annotated[StrictText, AfterValidator(_length_between(1, 200)), AfterValidator(_check_path)]
FirstPage = Annotated[int, BeforeValidator(_check_first_page)]
Concurrency = Annotated[int, BeforeValidator(_check_concurrency)]


class _EntryPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class PageNumber(_EntryPart):
    """``?page=1&size=100``, then 2, 3, …"""

    type: Literal["page_number"]
    page_param: Parameter = "page"
    size_param: Parameter = "size"
    page_size: PageSize = 100
    first_page: FirstPage = 1


class Offset(_EntryPart):
    """``?offset=0&limit=100``, then 100, 200, …"""

    type: Literal["offset"]
    offset_param: Parameter = "offset"
    limit_param: Parameter = "limit"
    page_size: PageSize = 100


class Cursor(_EntryPart):
    """The answer holds, at ``cursor_path``, what the next request must bring as ``cursor_param``."""

    type: Literal["cursor"]
    cursor_path: SelectorPath
    cursor_param: Parameter = "cursor"
    size_param: Parameter | None = None
    page_size: PageSize = 100


class JsonLink(_EntryPart):
    """The answer holds, at ``next_path``, the address of the next page."""

    type: Literal["json_link"]
    next_path: SelectorPath = "next"


class HeaderLink(_EntryPart):
    """The address of the next page stands in a ``Link`` header (RFC 8288), as ``rel="next"``."""

    type: Literal["header_link"]


class HeaderCursor(_EntryPart):
    """A header holds what the next request must bring as ``cursor_param``."""

    type: Literal["header_cursor"]
    header: HeaderName
    cursor_param: Parameter = "cursor"


Paginator = Annotated[
    PageNumber | Offset | Cursor | JsonLink | HeaderLink | HeaderCursor,
    Field(discriminator="type"),
    BeforeValidator(
        _check_discriminator("page_number", "offset", "cursor", "json_link", "header_link", "header_cursor")
    ),
]


class Bearer(_EntryPart):
    """``Authorization: Bearer …``"""

    type: Literal["bearer"]
    token: HeaderValue = Field(repr=False)

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class ApiKey(_EntryPart):
    """A key in a header of its own."""

    type: Literal["api_key"]
    key: HeaderValue = Field(repr=False)
    header: HeaderName = "X-API-Key"

    def headers(self) -> dict[str, str]:
        return {self.header: self.key}


class Basic(_EntryPart):
    """``Authorization: Basic …``"""

    type: Literal["basic"]
    username: HeaderValue
    password: HeaderValue = Field(repr=False)

    def headers(self) -> dict[str, str]:
        if ":" in self.username and not has_reference(self.username):
            raise ValueError("username must hold no colon")
        pair = f"{self.username}:{self.password}".encode()
        return {"Authorization": f"Basic {b64encode(pair).decode()}"}


Auth = Annotated[
    Bearer | ApiKey | Basic,
    Field(discriminator="type"),
    BeforeValidator(_check_discriminator("bearer", "api_key", "basic")),
]


def _check_headers(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError("must be an object of names and texts")
    if len(value) > 50:
        raise ValueError("must name at most 50 headers")
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"the name {quoted(name)} must be text: put it in quotes")
        _check_header_name(name)
    return value


class ApiEntry(ChefEntry):
    """``url, paginated, rename_columns``; if paginated ``page_param, size_param, page_size``; and more."""

    url: Annotated[Text, BeforeValidator(_require_text)]
    paginated: Bool = False
    page_param: Parameter = "page"
    size_param: Parameter = "size"
    page_size: PageSize = 100
    paginator: Paginator | None = None
    """Another way to get from page to page than ``paginated`` tells of."""
    data_selector: SelectorPath | None = None
    """Where in an answer the rows are, with dots between names."""
    auth: Auth | None = None
    headers: Annotated[dict[StrictText, HeaderValue], BeforeValidator(_check_headers)] = Field(
        default_factory=dict, repr=False
    )
    concurrent_pages: Concurrency = 4
    """Numbered pages that are fetched at the same time."""

    @model_validator(mode="after")
    def _check_pagination(self) -> Self:
        if self.paginated and self.paginator is not None:
            raise ValueError("paginated and paginator exclude each other: give one")
        pages = self.effective_paginator
        names: list[Any] = [self.page_param, self.size_param]
        if isinstance(pages, PageNumber):
            names = [pages.page_param, pages.size_param]
        elif isinstance(pages, Offset):
            names = [pages.offset_param, pages.limit_param]
        elif isinstance(pages, Cursor):
            names = [pages.cursor_param, pages.size_param]
        if len(set(names)) < len(names):
            raise ValueError("two parameters of the pages have the same name: give them different ones")
        return self

    @property
    def effective_paginator(self) -> PageNumber | Offset | Cursor | JsonLink | HeaderLink | HeaderCursor | None:
        """How to get from page to page; None if there is one answer only."""
        if not self.paginated:
            return self.paginator
        return PageNumber(
            type="page_number", page_param=self.page_param, size_param=self.size_param, page_size=self.page_size
        )

    def request_headers(self) -> dict[str, str]:
        """What goes to the source's own origin, and to no other."""
        return {**self.headers, **(self.auth.headers() if self.auth else {})}
