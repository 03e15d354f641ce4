"""Loading of model files."""

from __future__ import annotations

from pathlib import Path

from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.storage import model_file as artifact
from recserver._internal.storage.model_file import mmap_cache as snapshots


def load_model(path: Path) -> tuple[artifact.Artifact, Recommender]:
    """Read and check a model file. Slow for large files: do not call it on the event loop.

    Large files are mapped from a private copy that is checked once and shared by all processes of the machine.

    Raises:
        UnreadableModel: if it is damaged, of another format, or inconsistent. Nothing in it is executed.
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
