"""The server as a library, from an empty folder to a recommendation, on nothing but defaults."""

from __future__ import annotations

import pytest

from recserver import RecServer
from recserver._internal.core.events import RunEnded

ROWS = "user_id,item_id,rating\n" + "".join(
    f"u{u},i{i},{1 + (u * i) % 5}\n" for u in range(40) for i in range(u % 7, 12)
)


@pytest.mark.process
async def test_a_model_is_trained_and_serves(rec: RecServer) -> None:
    (rec.data_dir / "rows.csv").write_text(ROWS)
    await rec.create_model("m", algorithm="nmf")
    await rec.create_data_chef_from_csv("c", file_path="rows.csv")
    with rec.events.listen() as events:
        await rec.add_model_task("t", model_id="m", data_chef_id="c", interval=3600)
        ended = await events.next(RunEnded)
    assert (ended.outcome, ended.error) == ("completed", None)
    answer = await rec.recommend("u3", model_id="m", n=3)
    assert answer["source"] == "personal"
    assert {item["item_id"] for item in answer["predictions"]["u3"]} <= {"i0", "i1", "i2"}
