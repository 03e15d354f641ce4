"""The names and contents of a model's files. Nothing here accesses the disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.storage.model_file.version_numbers import is_version

CONFIG_SUFFIX, METADATA_SUFFIX, PICKLE_SUFFIX, LEGACY_SUFFIX = "_config.json", "_metadata.json", ".pkl", ".json"


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """A change of a model's config.

    Attributes:
        status: the new status; None leaves it unchanged.
        drop: keys to remove.
        values: keys to set. All other keys are preserved.
    """

    status: ModelStatus | None = None
    drop: Collection[str] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


def new_config(
    model_id: str,
    algorithm: str,
    model_type: str,
    hyperparameters: Mapping[str, Any],
    created_at: str,
    *,
    model_name: str | None = None,
    message: str = "",
) -> dict[str, Any]:
    """The config of a model that was never trained."""
    config = {
        "model_name": model_name,
        "message": message,
        "algorithm": algorithm,
        "model_type": model_type,
        "hyperparameters": dict(hyperparameters),
    }
    return with_defaults(model_id, config, created_at)


def highest_version(*contents: Mapping[str, Any]) -> int:
    """The highest version number in a model's config or metadata; 0 if there is none."""
    numbers = [content.get("model_version") for content in contents]
    return max((one for one in numbers if is_version(one)), default=0)


def model_id_from(name: str) -> str | None:
    """The id of the model whose config is called ``name``; None if the file is not a config."""
    stem = name.removesuffix(".json")
    if stem.endswith("_config"):
        return stem.removesuffix("_config") or None
    return None if stem.casefold().endswith(("_config", "_metadata")) else stem


def has_legacy_name(model_id: str) -> bool:
    """Whether ``{id}.json`` can be this model's config: for the id ``a_config`` it is that of model ``a``."""
    return model_id_from(f"{model_id}{LEGACY_SUFFIX}") == model_id


def with_defaults(model_id: str, raw: dict[str, Any], created_at: str) -> dict[str, Any]:
    """``raw`` with the keys that every model has put first; those that are missing get a default."""

    def text(*names: str, default: str) -> str:
        return next((raw[name] for name in names if isinstance(raw.get(name), str) and raw[name]), default)

    algorithm = text("algorithm", "type", default="unknown")
    status = text("status", default=ModelStatus.INITIALIZING.value)
    hyperparameters = raw.get("hyperparameters")
    always = {
        "model_id": model_id,
        "model_name": text("model_name", default=model_id),
        "message": text("message", default=""),
        "algorithm": algorithm,
        "model_type": text("model_type", "type", default=algorithm),
        "hyperparameters": hyperparameters if isinstance(hyperparameters, dict) else {},
        "created_at": text("created_at", default=created_at),
        "status": status if status in list(ModelStatus) else ModelStatus.INITIALIZING.value,
        "model_path": f"models/{model_id}{PICKLE_SUFFIX}",
    }
    return always | {key: value for key, value in raw.items() if key not in always}
