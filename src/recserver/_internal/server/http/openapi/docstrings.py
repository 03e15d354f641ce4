"""Descriptions from docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from docstring_parser import DocstringStyle, parse

_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?([^`]+)`")
_NONE = re.compile(r"\bNone\b(?! of)")
_LITERAL = re.compile(r"``([^`]+)``")


@dataclass(frozen=True, slots=True)
class Description:
    """The docstring of an operation.

    Attributes:
        summary: its first sentence, as plain text.
        details: what follows it, and what it returns.
        arguments: descriptions of its arguments by name.
        errors: descriptions of its errors by the names of their classes.
    """

    summary: str
    details: str
    arguments: dict[str, str]
    errors: dict[str, str]


def describe(function: Callable[..., Any], options: type | None) -> Description:
    """The parts of a docstring in Google style, in Markdown.

    Args:
        options: the TypedDict of further arguments, whose descriptions follow its fields.
    """
    doc = parse(inspect.getdoc(function) or "", DocstringStyle.GOOGLE)
    returns = doc.returns.description if doc.returns else None
    summary, _, rest = to_markdown(doc.short_description or "").partition(". ")
    details = [rest, doc.long_description, returns and f"Returns: {returns}"]
    return Description(
        summary=summary.removesuffix(".").replace("`", ""),
        details="\n\n".join(to_markdown(part) for part in details if part),
        arguments=(field_descriptions(options) if options else {})
        | {one.arg_name: to_markdown(one.description or "") for one in doc.params},
        errors={str(one.type_name): to_markdown(one.description or "") for one in doc.raises},
    )


def field_descriptions(kind: type) -> dict[str, str]:
    """The docstrings that follow the fields of a class or its bases, by name of the field, in Markdown."""
    bases = getattr(kind, "__orig_bases__", None) or kind.__bases__  # a TypedDict has no other trace of its bases
    found: dict[str, str] = {}
    for base in bases:
        if isinstance(base, type) and base is not object and base.__module__.startswith("recserver."):
            found |= field_descriptions(base)
    return found | dict(_own_fields(kind))


def _own_fields(kind: type) -> Iterator[tuple[str, str]]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    statements = getattr(definition, "body", [])
    for field, doc in pairwise(statements):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            value = getattr(doc, "value", None)
            if isinstance(doc, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield field.target.id, to_markdown(inspect.cleandoc(value.value))


def to_markdown(text: str) -> str:
    """reStructuredText's literals and roles as Markdown's code, and None as JSON's null."""
    plain = _NONE.sub("null", _LITERAL.sub(r"`\1`", _ROLE.sub(r"`\1`", text)))
    return " ".join(plain.split())
