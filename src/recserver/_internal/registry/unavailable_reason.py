"""Messages about models that have no usable file."""

from __future__ import annotations

from recserver._internal.core.errors import os_error_text, quoted
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.model_store import StoredModel
from recserver._internal.storage.model_file.version_numbers import is_version


def unavailable_reason(model: StoredModel, *, permanent: bool = False) -> str:
    """Why a model without a file cannot serve.

    Args:
        permanent: whether no stored version can replace the file.
    """
    if model.unreadable_reason:
        return model.unreadable_reason
    name, error = quoted(model.model_id), model.config.get("error")
    in_training = ModelStatus(model.status).in_training
    if model.status == ModelStatus.COMPLETED or is_version(model.config.get("model_version")):
        return f"The trained file of model {name} is missing{_missing_file_advice(error, permanent, in_training)}"
    if error:
        return f"Model {name} was never trained; its last training failed: {error}"
    if in_training:
        return f"Model {name} is being trained for the first time: ask again when its status is completed."
    return f"Model {name} was never trained: add a task that trains it."


def _missing_file_advice(error: object, permanent: bool, in_training: bool) -> str:
    """What to do if a trained file is missing."""
    if not permanent:
        return ": the server that writes the folder looks for a stored version; if there is none, train it again."
    if in_training:
        return ", and the model is being trained: ask again when its status is completed."
    failed = f", and its last training failed ({error})" if error else ""
    return f", and no stored version can replace it{failed}: train the model again."


def repair_pending_reason(model_id: str, error: OSError) -> str:
    """Why no stored version has replaced a damaged or missing file yet."""
    return (
        f"The trained file of model {quoted(model_id)} is damaged or missing, and no stored version can replace "
        f"it at the moment ({os_error_text(error)}): check the disk; it is retried automatically."
    )
