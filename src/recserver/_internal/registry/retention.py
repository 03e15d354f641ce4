"""How many versions of a model are retained, and which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recserver._internal.registry.version_files import Version

DEFAULT_MODEL_VERSIONS = 5
"""Default of the setting ``model_versions``."""


def retained_versions(versions: Sequence[Version], serving: int, newest: int) -> set[int]:
    """The numbers of the versions to retain.

    Args:
        versions: all of a model, newest first.
        serving: the number of the serving one.
        newest: how many are retained besides those pinned, serving, or needed for one rollback.
    """
    keep = {one.model_version for one in versions[:newest]} | {serving}
    keep |= {one.model_version for one in versions if one.pinned}
    keep |= {one.served_before for one in versions if one.model_version == serving and one.served_before}
    return keep
