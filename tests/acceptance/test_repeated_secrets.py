"""A source that repeats its request: none of its secrets is exposed."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from recserver import RecServer
from recserver._internal.core.events import RunEnded
from recserver._internal.results.base import plain

CANARY = "c4n4ry-s3cret-Pa55w0rd"
CREDENTIALS = {
    "bearer": {"auth": {"type": "bearer", "token": CANARY}},
    "bearer from the environment": {"auth": {"type": "bearer", "token": "${SHOP_TOKEN}"}},
    "key": {"auth": {"type": "api_key", "key": CANARY}},
    "basic": {"auth": {"type": "basic", "username": "reader", "password": CANARY}},
    "basic from the environment": {"auth": {"type": "basic", "username": "reader", "password": "${SHOP_TOKEN}"}},
    "header": {"headers": {"Authorization": f"Token {CANARY}"}},
    "header from the environment": {"headers": {"Authorization": "Token ${SHOP_TOKEN}"}},
    "url": {"query": f"?token={CANARY}"},
}
FORMS = (CANARY[:12], CANARY[-9:], b64encode(f"reader:{CANARY}".encode()).decode())


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    """An address that gives rows which repeat the request; some of them, or all, are no interactions."""

    async def rows(request: web.Request) -> web.Response:
        asked = json.dumps([dict(request.headers), str(request.url)])
        bad = [{"user_id": [asked], "item_id": asked}, {"user_id": "", "item_id": asked[-300:]}]
        good = [{"user_id": f"u{n}", "item_id": f"i{n % 3}", "rating": asked} for n in range(9)]
        return web.json_response(bad if request.match_info["which"] == "bad" else bad + good)

    app = web.Application()
    app.router.add_get("/{which}", rows)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@pytest.mark.parametrize("which", ["bad", "some"])
@pytest.mark.parametrize("name", CREDENTIALS)
async def test_repeated_secrets_are_not_exposed(
    rec: RecServer,
    echo: str,
    which: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", CANARY)
    caplog.set_level(logging.DEBUG)
    given: dict[str, Any] = dict(CREDENTIALS[name])
    url = f"{echo}{which}{given.pop('query', '')}"
    answers: list[Any] = []
    with rec.events.listen() as events:
        answers.append(await rec.create_data_chef_from_api("c", url=url, **given))
        await rec.create_model("m", algorithm="nmf", hyperparameters={"n_components": 1})
        await rec.add_model_task("t", model_id="m", data_chef_id="c", interval=3600)
        ended = await events.next(RunEnded)
    assert ended.outcome == ("failed" if which == "bad" else "completed")
    assert ended.data_report is not None and ended.data_report["examples"]
    answers += [ended.error, ended.data_report, await rec.list_tasks(), await rec.list_models()]
    answers += [await rec.get_model_info("m"), await rec.list_data_chefs(), await rec.preview_data_chef("c")]
    ours = "\n".join(one.getMessage() for one in caplog.records if one.name.startswith("recserver"))
    said = {"answers": json.dumps(plain(answers)), "log": ours} | {
        str(path): path.read_text(errors="replace")
        for path in rec.data_dir.rglob("*")
        if path.is_file() and path.name != "restaurant_data.yaml" and path.suffix != ".pkl"
    }
    assert not [place for place, text in said.items() if any(form in text for form in FORMS)]
