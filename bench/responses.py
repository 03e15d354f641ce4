"""Creating the result of ``recommend`` with ten items and encoding it as JSON: msgspec, plain dicts, pydantic."""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import BaseModel
from pydantic_core import to_json

from bench.report import measure_round_robin, report
from bench.settings import rounds
from recserver._internal.results.base import encode_json
from recserver._internal.results.recommendations import ScoredItem, Source, UserRecommendations

CALLS = 20_000
SCORES = [(f"item{number}", 0.123456789 * number) for number in range(10)]


class _Item(BaseModel):
    item_id: str
    score: float


class _Response(BaseModel):
    model_id: str
    user_id: str
    predictions: dict[str, list[_Item]]
    datetime: str
    status: str
    n_recommendations: int
    source: str | None
    model_version: int


FIELDS = {
    "model_id": "m",
    "user_id": "u",
    "datetime": "2026-01-02T03:04:05.678Z",
    "status": "completed",
    "n_recommendations": 10,
    "source": Source.PERSONAL,
    "model_version": 3,
}


def with_structs() -> bytes:
    """As the product does."""
    items = [ScoredItem(item_id=item, score=score) for item, score in SCORES]
    return encode_json(UserRecommendations(**FIELDS, predictions={"u": items}))


def with_dicts() -> bytes:
    """Without types."""
    items = [{"item_id": item, "score": score} for item, score in SCORES]
    return to_json({**FIELDS, "predictions": {"u": items}})


def with_pydantic() -> bytes:
    """Validated in one call, which is quicker than creating each model."""
    items = [{"item_id": item, "score": score} for item, score in SCORES]
    return _Response.model_validate({**FIELDS, "predictions": {"u": items}}).model_dump_json().encode()


async def main() -> None:
    def measure(encode: Callable[[], bytes]) -> Callable[[], object]:
        async def once() -> float:
            start = time.process_time()
            for _ in range(CALLS):
                encode()
            return (time.process_time() - start) / CALLS * 1e6

        return once

    measures = {"msgspec": with_structs, "dicts": with_dicts, "pydantic": with_pydantic}
    values = await measure_round_robin(rounds(7), {name: measure(one) for name, one in measures.items()})
    report("responses: the result of recommend, ten items, created and encoded", "us", values)
