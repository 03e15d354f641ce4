"""Model files that people put in place, and what they claim to be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recserver._internal.core.errors import ModelNotTrained
from tests.helpers.model_files import put_model, write_model
from tests.helpers.versioned import answers, damaged, kept, models_of, run, trained, trio, versions
from tests.helpers.workbench import Workbench

pytestmark = pytest.mark.slow


async def put_by_hand(bench: Workbench, version: int) -> bytes:
    """Put a valid file in the place of the model's; its content."""
    path = write_model(models_of(bench) / "m.new", version=version)
    path.replace(models_of(bench) / "m.pkl")
    await bench.look()
    return (models_of(bench) / "m.pkl").read_bytes()


@pytest.mark.parametrize("replaced_by", ["training", "rollback", "promotion"])
async def test_a_file_put_in_place_by_hand_is_stored_before_it_is_replaced(
    bench: Workbench, replaced_by: str
) -> None:
    await trained(bench, 2)
    content = await put_by_hand(bench, 9)
    assert (await bench.rec.recommend("u1", model_id="m"))["model_version"] == 9
    if replaced_by == "training":
        assert (await run(bench, 120)).model_version == 10
    elif replaced_by == "rollback":
        assert (await bench.rec.rollback_model("m"))["model_version"] == 2
    else:
        await bench.rec.promote_model("m", model_version=1)
    assert kept(bench, 9).read_bytes() == content
    assert await bench.rec.rollback_model("m", model_version=9)
    assert (await bench.rec.recommend("u1", model_id="m"))["model_version"] == 9
    assert trio(bench) == (9, 9, 9)


async def test_a_file_whose_number_is_taken_gets_another(bench: Workbench) -> None:
    await trained(bench, 2)
    await put_by_hand(bench, 1)
    assert (await run(bench, 120)).model_version == 3
    assert [one[0] for one in await versions(bench)] == [4, 3, 2, 1]
    assert await answers(bench) == 3
    await bench.rec.rollback_model("m", model_version=4)
    answer = await bench.rec.recommend("u1", model_id="m")
    assert (answer["model_version"], answer["source"]) == (4, "personal")
    assert (await run(bench, 121)).model_version == 5


async def test_stored_versions_and_invalid_files_are_not_imported(bench: Workbench) -> None:
    await trained(bench, 2)
    path = models_of(bench) / "m.pkl"
    for content in (kept(bench, 1).read_bytes(), b"garbage"):
        before = {one[0] for one in await versions(bench)}
        path.unlink()
        path.write_bytes(content)
        number = (await run(bench, 110 + len(before))).model_version
        assert {one[0] for one in await versions(bench)} == before | {number}


@pytest.mark.parametrize("lost", ["damaged", "missing"])
async def test_an_intact_file_replaces_its_damaged_stored_version(bench: Workbench, lost: str) -> None:
    await trained(bench, 2)
    path = models_of(bench) / "m.pkl"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)  # a file of its own, as a restored backup is
    if lost == "damaged":
        kept(bench, 2).write_bytes(content[:-100] + bytes(100))
    else:
        kept(bench, 2).unlink()
    assert (await run(bench, 120)).model_version == 3
    assert kept(bench, 2).read_bytes() == content
    assert (await bench.rec.rollback_model("m"))["model_version"] == 2


@pytest.mark.parametrize("claimed", [10**300, 2**63, 2**53, 2**53 - 1, True, -1, "7"])
async def test_no_claim_of_a_file_makes_the_next_version_invalid(bench: Workbench, claimed: Any) -> None:
    await trained(bench, 2)
    for name in ("config", "metadata"):
        path = models_of(bench) / f"m_{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_version": claimed}))
    record = kept(bench, 1, "json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"model_version": claimed}))
    kept(bench, 1).with_name(f"{2**60}.pkl").write_bytes(b"")
    assert (await run(bench, 110)).model_version == 3
    assert await answers(bench) == 3
    assert "its record 1.json" in (await damaged(bench))[1]


@pytest.mark.parametrize("claimed", [10**300, 2**63, 2**53, 0, True])
async def test_a_model_file_of_an_impossible_version_is_refused(bench: Workbench, claimed: Any) -> None:
    await trained(bench, 1)
    write_model(models_of(bench) / "m.new", version=claimed).replace(models_of(bench) / "m.pkl")
    await bench.look()
    assert (await answers(bench), trio(bench)) == (1, (1, 1, 1))
    put_model(models_of(bench), "other", version=claimed)
    with pytest.raises(ModelNotTrained, match=f"no version from 1 to {2**53 - 1}"):
        await bench.rec.recommend("u0", model_id="other")
