"""The page that shows the OpenAPI document, in a real browser."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.helpers.api_client import Api
from tests.helpers.openapi import DOCUMENT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
async def test_a_browser_shows_every_operation(api: Api, tmp_path: Path) -> None:
    """Within the page's own content security policy, whose violations would be in the browser's log."""
    assert CHROMIUM is not None
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
        "--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", f"{api.url}/docs",
        stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    page, log = (part.decode(errors="replace") for part in await browser.communicate())
    paths = {path for path in DOCUMENT["paths"] if f'data-path="{path}"' in page}
    assert paths == set(DOCUMENT["paths"]), log
    assert "Refused to" not in log and "Content Security Policy" not in log, log
