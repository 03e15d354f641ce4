"""Generated requests: schemathesis makes them from the OpenAPI document."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from recserver._internal.core.events import RunEnded
from tests.helpers.api_client import Api

CASES_PER_OPERATION = 40


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_no_generated_request_is_a_server_error(cafe: Api, tmp_path: Path) -> None:
    await cafe.ok("POST", "/create_data_chef_from_csv", {"data_chef_id": "orders", "file_path": "orders.csv"})
    await cafe.ok("POST", "/create_model", {"model_id": "coffee", "algorithm": "nmf"})
    task = {"task_name": "train_coffee", "model_id": "coffee", "data_chef_id": "orders", "interval": 3600}
    with cafe.rec.events.listen() as events:
        await cafe.ok("POST", "/add_model_task", task)
        await events.next(RunEnded)
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"), "run", f"{cafe.url}/openapi.json", "--url", cafe.url,
        "--exclude-path", "/events", "--max-examples", str(CASES_PER_OPERATION), "--checks", "not_a_server_error",
        "--phases", "examples,fuzzing", "--request-timeout", "60", "--no-color",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    found = re.search(r"([\d,]+) generated, ([\d,]+) passed", output)
    assert process.returncode == 0 and found is not None, output[-5000:]
    assert found[1] == found[2] and int(found[1].replace(",", "")) >= 2000, output[-5000:]
