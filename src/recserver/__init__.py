"""recserver: trains recommendation models from your data on a schedule, and serves them from memory.

Use it as a library with :class:`RecServer`, or from the command line with ``recserver serve``.

This module, :mod:`recserver.plugin` and :mod:`recserver.testing` are the public API; everything else may change.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

# fmt: off
if TYPE_CHECKING:
    from recserver._internal.core.errors import (
        Conflict,
        DataChefExists,
        DataChefNotFound,
        DataFolderInUse,
        Draining,
        ExportFailed,
        ExportInProgress,
        FieldError,
        InvalidInput,
        ItemNotFound,
        ModelBusy,
        ModelExists,
        ModelInUse,
        ModelNotFound,
        ModelNotTrained,
        ModelUnavailable,
        NotFound,
        ReadOnly,
        RecServerError,
        RunNotFound,
        ServerCannotStart,
        SourceFailed,
        StorageUnreadable,
        TaskExists,
        TaskNotFound,
        Unavailable,
        UnreadableModel,
        UserNotFound,
        VersionNotFound,
    )
    from recserver._internal.core.events import (
        Event,
        ModelServes,
        RunEnded,
        RunProgressed,
        RunSkipped,
        RunStarted,
        TaskFailing,
        TaskRecovered,
        TasksReconciled,
    )
    from recserver._internal.results.data_chefs import CreatedDataChef, DataChefInfo, DataPreview, DeletedDataChef
    from recserver._internal.results.exports import ExportStatus
    from recserver._internal.results.models import (
        AlgorithmInfo,
        AlgorithmList,
        CreatedModel,
        DeletedModel,
        ModelDetails,
        ModelInfo,
        QualityGateChange,
        VersionChange,
        VersionInfo,
        VersionList,
    )
    from recserver._internal.results.recommendations import (
        BatchRecommendations,
        ItemList,
        ItemPage,
        KnownItem,
        KnownUser,
        ModelSize,
        RankedItems,
        Reason,
        Recommendations,
        ScoredItem,
        SimilarItems,
        SimilarUser,
        SimilarUsers,
        Source,
        UserPage,
        UserRecommendations,
    )
    from recserver._internal.results.runs import (
        RunList,
        RunOutcome,
        RunRecord,
        RunSummary,
        StartedRun,
        StoppedTrainings,
        TrainingProgress,
        TrainingState,
        TrainingStatus,
    )
    from recserver._internal.results.scheduler import (
        Health,
        RestartedScheduler,
        SchedulerState,
        SchedulerStatus,
        StoppedScheduler,
    )
    from recserver._internal.results.tasks import (
        AddedTask,
        ChangedInterval,
        ChangedTask,
        EditedTask,
        RemovedTask,
        TaskInfo,
    )
    from recserver._internal.server.rec_server import RecServer
    from recserver._internal.server.settings import Settings

__all__ = [
    "AddedTask", "AlgorithmInfo", "AlgorithmList", "BatchRecommendations", "ChangedInterval", "ChangedTask",
    "Conflict", "CreatedDataChef", "CreatedModel", "DataChefExists", "DataChefInfo", "DataChefNotFound",
    "DataFolderInUse", "DataPreview", "DeletedDataChef", "DeletedModel", "Draining", "EditedTask", "Event",
    "ExportFailed", "ExportInProgress", "ExportStatus", "FieldError", "Health", "InvalidInput", "ItemList",
    "ItemNotFound", "ItemPage", "KnownItem", "KnownUser", "ModelBusy", "ModelDetails", "ModelExists",
    "ModelInUse", "ModelInfo", "ModelNotFound", "ModelNotTrained", "ModelServes", "ModelSize",
    "ModelUnavailable", "NotFound", "QualityGateChange", "RankedItems", "ReadOnly", "Reason", "RecServer",
    "RecServerError", "Recommendations", "RemovedTask", "RestartedScheduler", "RunEnded", "RunList",
    "RunNotFound", "RunOutcome", "RunProgressed", "RunRecord", "RunSkipped", "RunStarted", "RunSummary",
    "SchedulerState", "SchedulerStatus", "ScoredItem", "ServerCannotStart", "Settings", "SimilarItems",
    "SimilarUser", "SimilarUsers", "Source", "SourceFailed", "StartedRun", "StoppedScheduler",
    "StoppedTrainings", "StorageUnreadable", "TaskExists", "TaskFailing", "TaskInfo", "TaskNotFound",
    "TaskRecovered", "TasksReconciled", "TrainingProgress", "TrainingState", "TrainingStatus", "Unavailable",
    "UnreadableModel", "UserNotFound", "UserPage", "UserRecommendations", "VersionChange", "VersionInfo",
    "VersionList", "VersionNotFound",
]
# fmt: on

_MODULES = {
    "RecServer": "recserver._internal.server.rec_server",
    "Settings": "recserver._internal.server.settings",
}

_MODULES_OF_OTHERS = (
    "recserver._internal.core.errors",
    "recserver._internal.core.events",
    "recserver._internal.results.data_chefs",
    "recserver._internal.results.exports",
    "recserver._internal.results.models",
    "recserver._internal.results.recommendations",
    "recserver._internal.results.runs",
    "recserver._internal.results.scheduler",
    "recserver._internal.results.tasks",
)
"""Errors, events and results."""

if logging.getLogger(__name__).level == logging.NOTSET:  # the log of a host application has warnings of ours only
    logging.getLogger(__name__).setLevel(logging.WARNING)


def __getattr__(name: str) -> Any:
    """The public name, imported when it is first used: worker processes need no server."""
    if name in __all__:
        for module in (_MODULES[name],) if name in _MODULES else _MODULES_OF_OTHERS:
            if hasattr(found := import_module(module), name):
                return getattr(found, name)
    raise AttributeError(f"module 'recserver' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
