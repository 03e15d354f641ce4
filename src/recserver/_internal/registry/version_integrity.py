"""Checks whether stored versions can serve."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from recserver._internal.core.errors import ModelUnavailable, UnreadableModel, os_error_text, quoted
from recserver._internal.recommend.model.loading import load_model
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.registry.version_files import Version
from recserver._internal.storage import model_file as artifact
from recserver._internal.storage.atomic_files import file_stamp, open_nonblocking

MAX_HASHED_BYTES = 256 * 2**20
"""Bytes of the largest file that is hashed to list it; of a larger one only the beginning and the end are read."""

MAX_CACHED = 10_000
"""Files whose check results are cached."""


def open_version(path: Path, version: Version) -> Recommender:
    """Load a stored version. Blocking, and slow for large ones.

    Raises:
        UnreadableModel: if it is damaged; ModelUnavailable if it cannot be read at the moment.
        FileNotFoundError: if it does not exist.
    """
    if version.unrecorded:
        raise UnreadableModel(f"{path.name} has no record.", str(version.damaged))
    packed, recommender = load_model(path)
    if packed.sha256 != version.metadata.get("sha256", packed.sha256):
        raise UnreadableModel(f"{path.name} is another file.", "it is not the file that was stored")
    return recommender


def unusable_version_error(
    model_id: str, number: int, error: UnreadableModel, others: Sequence[int]
) -> UnreadableModel:
    """The error of a rollback or promotion: why a version cannot serve, and which could instead."""
    name = f"Version {number} of model {quoted(model_id)}"
    if isinstance(error, ModelUnavailable):
        return ModelUnavailable(
            f"{name} cannot be read at the moment ({error.reason}): check its file's permissions and the disk, "
            "then try again.",
            error.reason,
        )
    instead = (
        f"use another, such as {max(others)}" if others else "there is no other version, train the model again"
    )
    return UnreadableModel(f"{name} is damaged ({error.reason}): {instead}.", error.reason)


class IntegrityChecker:
    """Finds damage in stored versions. Results are cached until the file changes."""

    def __init__(self) -> None:
        self._cache: dict[Path, tuple[tuple[int, int, int], str | None]] = {}

    def find_damage(self, path: Path, version: Version) -> str | None:
        """Why a version cannot serve, as half a sentence; None if it can. Blocking."""
        if version.damaged is not None:
            return version.damaged
        try:
            stamp = file_stamp(path.stat())
            known = self._cache.get(path)
            if known is None or known[0] != stamp:
                if len(self._cache) >= MAX_CACHED:
                    self._cache.clear()
                known = self._cache[path] = stamp, _find_damage(path, version)
            return known[1]
        except ModelUnavailable as error:
            return f"its file cannot be read at the moment, {error.reason}"
        except OSError as error:
            return f"its file cannot be read at the moment, {os_error_text(error)}"


def _find_damage(path: Path, version: Version) -> str | None:
    try:
        artifact.check_ends(path)
    except ModelUnavailable:
        raise
    except UnreadableModel as error:
        return error.reason
    recorded = version.metadata.get("sha256")
    if recorded is None or path.stat().st_size > MAX_HASHED_BYTES or file_sha256(path) == recorded:
        return None
    return "its content is not what was stored"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb", opener=open_nonblocking) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
