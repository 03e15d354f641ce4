"""Every error recserver raises on purpose: one sentence that says what is wrong and what to do, and a code.

Errors know no HTTP. One table in :mod:`recserver.server.http.codec` maps the codes to statuses.
"""

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
    """Base of all errors of recserver. ``str(error)`` is a sentence fit for people."""

    code: ClassVar[str] = "internal_error"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is missing or wrong: where it stands and what is the matter with it."""

    loc: tuple[str, ...]
    msg: str


class InvalidInput(RecServerError):
    """A value is missing or wrong. ``errors`` names every such field."""

    code = "validation_error"

    def __init__(self, message: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class NotFound(RecServerError):
    """Something was asked for by an id that nothing has."""


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, model_id: str) -> None:
        super().__init__(f"There is no model {quoted(model_id)}: GET /list_models names those there are.")


class DataChefNotFound(NotFound):
    code = "data_chef_not_found"

    def __init__(self, data_chef_id: str) -> None:
        self.data_chef_id = data_chef_id
        super().__init__(
            f"There is no data chef {quoted(data_chef_id)}: GET /list_data_chefs names those there are."
        )


class TaskNotFound(NotFound):
    code = "task_not_found"

    def __init__(self, task_name: str) -> None:
        super().__init__(f"There is no task {quoted(task_name)}: GET /list_tasks names those there are.")


class RunNotFound(NotFound):
    code = "run_not_found"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {quoted(run_id)}: GET /list_runs names those that are remembered.")


class UserNotFound(NotFound):
    code = "user_not_found"

    def __init__(self, model_id: str, user_id: str) -> None:
        super().__init__(
            f"Model {quoted(model_id)} knows no user {quoted(user_id)}: GET /users names those it was trained on."
        )


class ItemNotFound(NotFound):
    code = "item_not_found"

    def __init__(self, model_id: str, item_id: str) -> None:
        super().__init__(
            f"Model {quoted(model_id)} knows no item {quoted(item_id)}: GET /items names those it was trained on."
        )


class VersionNotFound(NotFound):
    code = "version_not_found"

    def __init__(self, model_id: str, model_version: int | None) -> None:
        which = "version that served before" if model_version is None else f"version {model_version}"
        super().__init__(
            f"Model {quoted(model_id)} has no {which}: GET /list_model_versions names those that are kept."
        )


class Conflict(RecServerError):
    """The request does not fit what is there now."""


class ModelExists(Conflict):
    code = "model_exists"


class DataChefExists(Conflict):
    code = "data_chef_exists"


class TaskExists(Conflict):
    code = "task_exists"


class ModelBusy(Conflict):
    code = "model_busy"


class ModelChanged(Conflict):
    """Another file is in the place of the one that was looked at."""

    code = "model_busy"

    def __init__(self, model_id: str) -> None:
        super().__init__(f"The files of model {quoted(model_id)} changed meanwhile: try again.")


class ModelInUse(Conflict):
    code = "model_in_use"


class ModelNotTrained(Conflict):
    code = "model_not_trained"


class ExportInProgress(Conflict):
    """Another export writes to the same place."""

    code = "export_under_way"


class ReadOnly(Conflict):
    """The server only looks, and was asked to change something."""

    code = "read_only"


class StorageUnreadable(RecServerError):
    """A file that holds several definitions cannot be parsed, so it is neither used nor overwritten."""

    code = "storage_unreadable"


class Draining(RecServerError):
    """The server is closing and takes no new work."""

    code = "draining"


class WriterUnavailable(RecServerError):
    """The process of this service that writes its data folder does not answer just now."""

    code = "writer_away"


class UnreadableModel(RecServerError):
    """A ``.pkl`` that is damaged, foreign or hostile. Nothing in it was executed. ``reason``: half a sentence."""

    code = "model_not_trained"

    def __init__(self, message: str, reason: str = "its content makes no sense") -> None:
        super().__init__(message)
        self.reason = reason


class ModelUnavailable(UnreadableModel):
    """A ``.pkl`` that could not be read just now: nothing is said about what it holds."""


class NoNewModel(RecServerError):
    """A training ended without a new model. ``data_report`` tells what was read until then, if anything was."""

    def __init__(self, message: str, data_report: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.data_report = data_report

    def with_message(self, message: str, data_report: dict[str, Any] | None = None) -> Self:
        """The same in other words, and with what was read."""
        other = copy(self)
        other.args, other.data_report = (message,), data_report or self.data_report
        return other


class TrainingFailed(NoNewModel):
    """A training failed; the sentence becomes the model's ``error``.

    Attributes:
        transient: whether the same may well succeed soon, without anybody changing anything.
        retry_after: seconds after which whoever refused asks to be tried again, if they said so.
        fault: whether recserver itself is at fault, rather than its data or surroundings.
    """

    code = "training_failed"

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
        self.transient, self.retry_after, self.is_internal = transient, retry_after, is_internal


class SourceFailed(TrainingFailed):
    """A data chef could not read its source, or found nothing usable in it."""

    code = "source_failed"


class SourceUnchanged(NoNewModel):
    """A scheduled training found the data and hyperparameters of the last one, and did not fit again."""

    code = "source_unchanged"


class WorkerDied(TrainingFailed):
    """The worker process of a training ended before the training did."""

    code = "worker_died"

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


class ExportFailed(RecServerError):
    """Recommendations could not be exported; nothing was put in the place of what was there."""

    code = "export_failed"


class ServerCannotStart(RecServerError):
    """The settings or the surroundings do not allow the server to start."""

    code = "cannot_start"


class DataFolderInUse(ServerCannotStart):
    """Another server, the ``holder``, has the data folder."""

    def __init__(self, folder: Path, holder: str) -> None:
        self.holder = holder
        super().__init__(
            f"The data folder {folder} is in use by {holder}: stop that one, choose another folder with --data, "
            "or serve this one with --read-only."
        )


def quoted(text: object) -> str:
    """``text`` escaped for a sentence: control characters escaped, shortened to 80 characters."""
    escaped = repr(str(text))
    return escaped if len(escaped) <= 80 else f"{escaped[:77]}…'"


def os_error_text(error: OSError) -> str:
    """What the system said, and of which file."""
    what = error.strerror or str(error) or type(error).__name__
    path = error.filename2 or error.filename
    return what if path is None else f"{what}: {_escaped(os.fsdecode(path))}"


def _escaped(text: str) -> str:
    """``text`` with its control characters escaped, the middle left out where it is long."""
    plain = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
    return (
        plain
        if len(plain) <= MAX_PATH_LENGTH
        else f"{plain[: MAX_PATH_LENGTH // 2]}…{plain[-MAX_PATH_LENGTH // 2 :]}"
    )
