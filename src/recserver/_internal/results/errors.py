"""The body of every response to a request that failed."""

from __future__ import annotations

from recserver._internal.results.base import ResultObject


class FieldProblem(ResultObject, frozen=True, kw_only=True):
    """A field of a request that is missing or invalid."""

    loc: tuple[str, ...]
    """Where it is: ``path``, ``query`` or ``body``, and its name."""
    msg: str
    """What is wrong with it."""


class ErrorResponse(ResultObject, frozen=True, kw_only=True):
    """What is wrong, and what to do. A request that failed has changed nothing."""

    detail: str
    """One sentence for people."""
    error: str
    """The same as ``detail``."""
    code: str
    """A word for programs, such as ``model_not_found``."""
    authenticated: bool | None = None
    """Present, and false, with status 401."""
    errors: list[FieldProblem] | None = None
    """Present with status 422: every field that is missing or invalid."""
