"""All errors of recserver: a sentence that says what is wrong and what to do, a code and an HTTP status."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

MAX_PATH_LENGTH = 200
"""Characters of a path in a sentence."""


class RecServerError(Exception):
    """Base of all errors of recserver. ``str(error)`` is a sentence for users.

    A subclass names its code and HTTP status as class arguments, or inherits them.

    Attributes:
        code: a word for programs, such as ``model_not_found``: the ``code`` of the HTTP response.
        status: the status of the HTTP response.
    """

    code: ClassVar[str] = "internal_error"
    status: int = 500

    def __init_subclass__(cls, *, code: str | None = None, status: int | None = None) -> None:
        cls.code, cls.status = code or cls.code, status or cls.status


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is missing or wrong: its path and the problem. ``str()`` gives ``path: problem``."""

    loc: tuple[str, ...]
    msg: str

    def __str__(self) -> str:
        return f"{'.'.join(self.loc)}: {self.msg}" if self.loc else self.msg


class InvalidInput(RecServerError, code="validation_error", status=422):
    """A value is missing or wrong. ``errors`` names every such field."""

    def __init__(self, message: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors: tuple[FieldError, ...] = tuple(errors)

    @classmethod
    def of(cls, field: str | tuple[str, ...], problem: object) -> Self:
        """The error about one field: ``problem`` is a sentence without subject and full stop."""
        return cls.of_fields([FieldError((field,) if isinstance(field, str) else field, str(problem))])

    @classmethod
    def of_fields(cls, errors: Sequence[FieldError]) -> Self:
        """The error about several fields, whose message names them all."""
        return cls("; ".join(map(str, errors)) + ".", errors)


class NotFound(RecServerError, status=404):
    """Nothing has the requested ``ids``, which are put into the placeholders of ``template``."""

    template: ClassVar[str]

    def __init__(self, *ids: str) -> None:
        self.ids = ids
        super().__init__(self.template.format(*map(quoted, ids)))


class ModelNotFound(NotFound, code="model_not_found"):
    template = "There is no model {}: GET /list_models lists all models."


class DataChefNotFound(NotFound, code="data_chef_not_found"):
    template = "There is no data chef {}: GET /list_data_chefs lists all data chefs."


class TaskNotFound(NotFound, code="task_not_found"):
    template = "There is no task {}: GET /list_tasks lists all tasks."


class RunNotFound(NotFound, code="run_not_found"):
    template = "There is no run {}: GET /list_runs lists the recorded runs."


class UserNotFound(NotFound, code="user_not_found"):
    template = "Model {} has no user {}: GET /users lists those it was trained on."


class ItemNotFound(NotFound, code="item_not_found"):
    template = "Model {} has no item {}: GET /items lists those it was trained on."


class VersionNotFound(RecServerError, code="version_not_found", status=404):
    def __init__(self, model_id: str, model_version: int | None) -> None:
        which = "earlier version that served" if model_version is None else f"version {model_version}"
        super().__init__(
            f"Model {quoted(model_id)} has no {which}: GET /list_model_versions lists the stored ones."
        )


class Conflict(RecServerError, status=409):
    """The request does not fit what is there now."""


class ModelExists(Conflict, code="model_exists"): ...


class DataChefExists(Conflict, code="data_chef_exists"): ...


class TaskExists(Conflict, code="task_exists"): ...


class ModelBusy(Conflict, code="model_busy"): ...


class ModelChanged(ModelBusy):
    """The model's file was replaced since it was checked."""

    def __init__(self, model_id: str) -> None:
        super().__init__(f"The files of model {quoted(model_id)} changed meanwhile: try again.")


class ModelInUse(Conflict, code="model_in_use"): ...


class ModelNotTrained(Conflict, code="model_not_trained"): ...


class ExportInProgress(Conflict, code="export_under_way"):
    """Another export writes to the same place."""


class ReadOnly(Conflict, code="read_only"):
    """A change was requested of a read-only server."""


class MalformedJson(RecServerError, code="malformed_json", status=400):
    """A request or its body cannot be parsed."""


class Unauthorized(RecServerError, code="unauthorized", status=401):
    """The API key is missing or wrong."""


class Forbidden(RecServerError, code="forbidden", status=403):
    """The API key does not allow the request. Reserved: every key allows everything."""


class HostNotAllowed(RecServerError, code="host_not_allowed", status=403):
    """The Host header names a host that this server does not serve."""


class OriginNotAllowed(RecServerError, code="origin_not_allowed", status=403):
    """The request comes from a web page of an origin that is not allowed."""


class RouteNotFound(RecServerError, code="route_not_found", status=404): ...


class MethodNotAllowed(RecServerError, code="method_not_allowed", status=405): ...


class PayloadTooLarge(RecServerError, code="payload_too_large", status=413): ...


class UnsupportedMediaType(RecServerError, code="unsupported_media_type", status=415):
    """The body is declared to be something else than JSON."""


class StorageUnreadable(RecServerError, code="storage_unreadable", status=503):
    """A file that holds several definitions cannot be parsed, so it is neither used nor overwritten."""


class Unavailable(RecServerError, status=503):
    """The server cannot handle the request at the moment: try again after ``RETRY_SECONDS``."""


class Draining(Unavailable, code="draining"):
    """The server is shutting down and takes no new work."""


class WriterUnavailable(Unavailable, code="writer_away"):
    """The process of this service that writes its data folder does not respond."""


class UnreadableModel(RecServerError, code="model_not_trained", status=409):
    """A ``.pkl`` that is damaged, malicious, or of another program. Nothing in it was executed.

    ``reason``: half a sentence.
    """

    def __init__(self, message: str, reason: str = "its content makes no sense") -> None:
        super().__init__(message)
        self.reason = reason


class ModelUnavailable(UnreadableModel):
    """A ``.pkl`` that cannot be read at the moment; its content may be valid."""


class NoNewModel(RecServerError):
    """A training ended without a new model. ``data_report`` describes the data read so far, if any."""

    def __init__(self, message: str, data_report: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.data_report = data_report

    def with_message(self, message: str, data_report: dict[str, Any] | None = None) -> Self:
        """A copy with another message and data report."""
        other = copy(self)
        other.args, other.data_report = (message,), data_report or self.data_report
        return other


class TrainingFailed(NoNewModel, code="training_failed"):
    """A training failed; the sentence becomes the model's ``error``.

    Attributes:
        transient: whether a retry may succeed without any change.
        retry_after: seconds that the source asked to wait before a retry, if it did.
        is_internal: whether the cause is an error in recserver, rather than its data or environment.
    """

    def __init__(
        self,
        message: str,
        data_report: dict[str, Any] | None = None,
        *,
        transient: bool = False,
        retry_after: float | None = None,
        is_internal: bool = False,
    ) -> None:
        super().__init__(message, data_report)
        self.transient: bool = transient
        self.retry_after: float | None = retry_after
        self.is_internal: bool = is_internal


class SourceFailed(TrainingFailed, code="source_failed", status=422):
    """A data chef could not read its source, or found nothing usable in it."""


class SourceUnchanged(NoNewModel, code="source_unchanged"):
    """A scheduled training was skipped: data and hyperparameters are those of the last one."""


class WorkerDied(TrainingFailed, code="worker_died"):
    """The worker process of a training ended before the training did."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


class ExportFailed(RecServerError, code="export_failed", status=422):
    """Recommendations could not be exported; an existing file or table was not replaced."""


class ServerCannotStart(RecServerError, code="cannot_start"):
    """The settings or the environment do not allow the server to start."""


class DataFolderInUse(ServerCannotStart):
    """Another server, the ``holder``, uses the data folder."""

    def __init__(self, folder: Path, holder: str) -> None:
        self.holder = holder
        super().__init__(
            f"The data folder {folder} is in use by {holder}: stop that one, choose another folder with --data, "
            "or serve this one with --read-only."
        )


def quoted(text: object) -> str:
    """``text`` in quotes for a message: control characters escaped, shortened to 80 characters."""
    escaped = repr(str(text))
    return escaped if len(escaped) <= 80 else f"{escaped[:77]}…'"


def os_error_text(error: OSError) -> str:
    """The message of the operating system, and the path."""
    message = error.strerror or str(error) or type(error).__name__
    path = error.filename2 or error.filename
    return message if path is None else f"{message}: {_shorten(escape(os.fsdecode(path)))}"


def escape(text: str) -> str:
    """``text`` with its control characters escaped, so that it cannot send escape sequences to a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _shorten(path: str) -> str:
    half = MAX_PATH_LENGTH // 2
    return path if len(path) <= MAX_PATH_LENGTH else f"{path[:half]}…{path[-half:]}"
