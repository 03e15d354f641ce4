"""The status of a model and its transitions."""

from __future__ import annotations

from enum import StrEnum


class ModelStatus(StrEnum):
    """The status of a model. A trained version keeps serving in every status."""

    INITIALIZING = "initializing"
    """Created, never trained."""
    TRAINING = "training"
    """A run is reading its sources, evaluating or fitting."""
    VALIDATING = "validating"
    """The packed file is being checked before it serves."""
    COMPLETED = "completed"
    """The last training succeeded."""
    FAILED = "failed"
    """The last training failed; ``error`` and ``failed_at`` say why and when."""
    STOPPED = "stopped"
    """The last training was cancelled; ``stopped_at`` says when."""
    MODIFIED = "modified"
    """The hyperparameters changed since the last training."""

    @property
    def in_training(self) -> bool:
        """Whether a run is under way in this status."""
        return self in (ModelStatus.TRAINING, ModelStatus.VALIDATING)


_FROM_IDLE = frozenset({ModelStatus.TRAINING, ModelStatus.MODIFIED})
TRANSITIONS: dict[ModelStatus, frozenset[ModelStatus]] = {
    ModelStatus.INITIALIZING: _FROM_IDLE,
    # completed: a scheduled run with unchanged data restores the previous status
    ModelStatus.TRAINING: frozenset(
        {ModelStatus.VALIDATING, ModelStatus.FAILED, ModelStatus.STOPPED, ModelStatus.COMPLETED}
    ),
    ModelStatus.VALIDATING: frozenset({ModelStatus.COMPLETED, ModelStatus.FAILED, ModelStatus.STOPPED}),
    ModelStatus.COMPLETED: _FROM_IDLE,
    # completed: a rejected version is promoted by hand
    ModelStatus.FAILED: _FROM_IDLE | {ModelStatus.COMPLETED},
    ModelStatus.STOPPED: _FROM_IDLE,
    ModelStatus.MODIFIED: _FROM_IDLE,
}
"""All valid changes of status."""
