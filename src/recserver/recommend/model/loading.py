"""From a model file to a version that answers."""

from __future__ import annotations

from pathlib import Path

from recserver.recommend.model.recommender import Recommender
from recserver.storage import model_file as artifact
from recserver.storage.model_file import mmap_cache as snapshots


def load_model(path: Path) -> tuple[artifact.Artifact, Recommender]:
    """The packed model in a file, with everything about it checked. Slow for large ones: not for the loop.

    A large one is a map of a private copy that was checked once and is shared by all processes of the machine.

    Raises:
        UnreadableModel: if it is damaged, foreign, or does not fit together. Nothing in it was executed.
    """
    with snapshots.mapped_copy(path, artifact.MAX_FILE_BYTES) as copy:
        if copy is None:
            packed = artifact.load(path)
        else:
            packed = artifact.parse(copy.content, path.name, sha256=copy.sha256)
        recommender = Recommender.from_artifact(packed)
        if copy is not None and copy.sha256 is None:
            copy.publish(packed.sha256)
    return packed, recommender
