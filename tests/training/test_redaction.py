"""Secrets in what sources say: those from the environment are told by name, all others masked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from recserver._internal.chefs.protocol import Batch
from recserver._internal.chefs.redaction import Redactor
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import SourceFailed
from recserver._internal.training.jobs import PreviewJob
from recserver._internal.training.preview.source_preview import preview

ENTRY = {
    "type": "api",
    "url": "https://shop.example/?api_key=canary-written&token=${SHOP_TOKEN}",
    "auth": {"type": "bearer", "token": "${SHOP_TOKEN}"},
    "headers": {"X-Secret": "mixed-${SHOP_TOKEN}-canary"},
}


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "canary/of the environment")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no canary/of the environment", "no ${SHOP_TOKEN}"),
        ("no canary%2Fof%20the%20environment", "no ${SHOP_TOKEN}"),
        ("cut off: canary/of t…", "cut off: ${SHOP_TOKEN}…"),
        ("no canary-written", "no ********"),
        ("cut off: canary-wr…", "cut off: ********…"),
        ("mixed-canary/of the environment-canary", "********"),
        ("as written: ${SHOP_TOKEN}", "as written: ${SHOP_TOKEN}"),
        ("canary-written and canary/of the environment", "******** and ${SHOP_TOKEN}"),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_sentences(said: str, told: str) -> None:
    assert Redactor(ENTRY).redact_message(said) == told


def test_rows_show_neither() -> None:
    shown = Redactor(ENTRY).redact_value({"a": ["canary/of the environment", "canary-written"], "b": 7})
    assert "canary" not in str(shown) and shown["b"] == 7


def test_a_preview_that_fails_hides_both_and_stays_the_same_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Talkative:
        def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None: ...

        def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
            raise SourceFailed("It refused canary-written, canary/of the env…", transient=True, retry_after=7)
            yield

    monkeypatch.setattr(
        "recserver._internal.training.ingest.source_reader.load_chef_class", lambda kind: Talkative
    )
    with pytest.raises(SourceFailed) as failure:
        preview(PreviewJob(data_chef=ENTRY, policy=SourcePolicy(data_dir=tmp_path)))
    assert str(failure.value) == "It refused ********, ${SHOP_TOKEN}…"
    assert (failure.value.transient, failure.value.retry_after) == (True, 7)


def test_secrets_that_begin_alike_leave_nothing_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONG", "sk_live_AAAA_and_more")
    monkeypatch.setenv("SHORT", "sk_live_BBBB")
    entry = {"auth": {"token": "sk_live_CCCC"}, "headers": {"a": "${LONG}", "b": "${SHORT}"}}
    said = "sk_live_BBBB sk_live_AAAA_and_more sk_live_CCCC sk_live_CC… sk_live_A… end"
    assert Redactor(entry).redact_message(said) == "${SHORT} ${LONG} ******** ********… ${LONG}… end"
