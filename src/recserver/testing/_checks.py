"""Checks of the conformance suites. They raise AssertionErrors with a sentence for the plug-in author."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def check(condition: object, message: str) -> None:
    """Raise an AssertionError with this message unless ``condition``. ``python -O`` does not remove it."""
    __tracebackhide__ = True
    if not condition:
        raise AssertionError(message)


def is_sentence(text: object) -> bool:
    """Whether ``text`` is one line of several words that ends with a full stop or another mark."""
    if not isinstance(text, str) or "\n" in text or "Traceback" in text:
        return False
    return " " in text and not text[:1].isspace() and text.endswith((".", "!", "?"))


def check_sentence(text: object, name: str) -> None:
    """Check that ``text``, which ``name`` describes, is a sentence."""
    __tracebackhide__ = True
    check(is_sentence(text), f"{name} must be a sentence, not {text!r}.")


def through_json(value: Any, name: str) -> Any:
    """``value`` after conversion to JSON and back."""
    __tracebackhide__ = True
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name} must be valid as JSON ({error}): {value}.") from error


@contextmanager
def must_work(requirement: str) -> Iterator[None]:
    """Fail with ``requirement``, a sentence without its end, if the block raises."""
    __tracebackhide__ = True
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{requirement}, and raised {error!r}.") from error


class Raised:
    """The exception of a :func:`must_raise` block. ``message`` is empty before it is raised."""

    message = ""


@contextmanager
def must_raise(kind: type[Exception], requirement: str) -> Iterator[Raised]:
    """Fail unless the block raises ``kind`` with a sentence.

    Args:
        requirement: a sentence without its end that says what must raise ``kind``.
    """
    __tracebackhide__ = True
    raised = Raised()
    try:
        yield raised
    except kind as error:
        raised.message = str(error)
        check_sentence(raised.message, f"{requirement}: its message")
    except Exception as error:
        raise AssertionError(f"{requirement}, not {error!r}.") from error
    else:
        raise AssertionError(f"{requirement}, and raised nothing.")
