"""The progress of a run is one bar with a share of the whole and the remaining time, and never runs backwards."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from recserver._internal.cli.run_progress import MAX_SHARE, STAGE_SHARES, BarDisplay, RunProgress


def at(stage: str, **fields: float) -> RunProgress:
    return RunProgress.model_validate({"stage": stage, **fields})


def test_the_stages_make_up_the_whole() -> None:
    assert sum(STAGE_SHARES.values()) == pytest.approx(1)
    shares = [at(stage).share for stage in STAGE_SHARES]
    assert (
        shares == sorted(shares) and shares[0] == 0 and shares[-1] == pytest.approx(1 - STAGE_SHARES["publishing"])
    )


def test_iterations_count_within_their_stage() -> None:
    begin, middle, end = (at("fitting", iteration=number, iterations=10).share for number in (0, 5, 10))
    assert begin == at("fitting").share and end == pytest.approx(at("packing").share)
    assert middle == pytest.approx((begin + end) / 2)


def test_an_earlier_run_decides_by_time() -> None:
    assert at("reading", elapsed_seconds=30, eta_seconds=10).share == 0.75
    assert at("fitting", elapsed_seconds=30, eta_seconds=0).share == MAX_SHARE
    assert at("reading", elapsed_seconds=30, eta_seconds=10).remaining_seconds == 10


def test_without_an_earlier_run_the_remaining_time_follows_from_the_share() -> None:
    halfway = at("fitting", elapsed_seconds=65)
    assert halfway.share == pytest.approx(0.65) and halfway.remaining_seconds == pytest.approx(35)
    assert at("starting", elapsed_seconds=5).remaining_seconds is None  # too early to tell
    assert at("fitting").remaining_seconds is None


def test_other_work_has_the_share_of_its_iterations() -> None:
    assert at("als: fitting", iteration=1, iterations=4).share == 0.25
    assert at("als: fitting").share is None


def test_the_bar_never_runs_backwards() -> None:
    printed = io.StringIO()
    bar = BarDisplay(Console(file=printed, force_terminal=True, width=120))
    with bar:
        for progress in (at("fitting"), at("reading", elapsed_seconds=1, eta_seconds=99), at("packing")):
            bar.show(progress)
            bar._bar.refresh()
    percentages = [int(number) for number in re.findall(r"(\d+)%", printed.getvalue())]
    assert percentages == sorted(percentages) and {65, 93} <= set(percentages)
