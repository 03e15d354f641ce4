"""Which versions of a model are kept."""

from __future__ import annotations

from collections.abc import Sequence

from recserver.registry.version_files import Version


def kept_versions(versions: Sequence[Version], serving: int, newest: int) -> set[int]:
    """The numbers of the versions that somebody can want back.

    Args:
        versions: all of a model, the newest first.
        serving: the one that serves.
        newest: how many are kept beside those that are pinned, that serve, or that are needed to go back once.
    """
    keep = {one.model_version for one in versions[:newest]} | {serving}
    keep |= {one.model_version for one in versions if one.pinned}
    keep |= {one.served_before for one in versions if one.model_version == serving and one.served_before}
    return keep
