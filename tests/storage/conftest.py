"""What tests of stored models share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recserver._internal.registry.model_store import ModelStore
from recserver._internal.registry.version_store import VersionStore
from tests.helpers.three_versions import publish


@pytest.fixture
async def before(tmp_path: Path) -> Path:
    """A folder with a model of three versions, the third serving, and another model."""
    folder = tmp_path / "before"
    folder.mkdir()
    models = ModelStore(folder)
    versions = VersionStore(models)
    await models.create("m", {"status": "validating", "created_at": "then", "mine": "kept"})
    await models.create("other", {"status": "initializing", "created_at": "then"})
    for number in (1, 2, 3):
        (folder / "m_config.json").write_text(
            json.dumps(json.loads((folder / "m_config.json").read_text()) | {"status": "validating"})
        )
        await publish(models, versions, number)
    return folder
