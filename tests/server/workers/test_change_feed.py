"""Notifications of changed models, and how long the writer waits for its followers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from recserver._internal.core.clock import SystemClock
from recserver._internal.server.workers import change_feed as module
from recserver._internal.server.workers.change_feed import Followers, follow


class Looking:
    """A follower, which looks when it may."""

    def __init__(self) -> None:
        self.looks, self.may, self.wants, self.abreast = 0, *(asyncio.Event() for _ in range(3))
        self.may.set()
        self.fault: Exception | None = None

    async def look_again(self) -> None:
        self.wants.set()
        await self.may.wait()
        self.looks += 1
        fault, self.fault = self.fault, None
        if fault:
            raise fault

    @asynccontextmanager
    async def following(self, path: Path) -> AsyncIterator[None]:
        task = asyncio.ensure_future(follow(path, self.look_again, SystemClock(), self.abreast))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "changes"


async def test_without_followers_nothing_is_awaited() -> None:
    followers = Followers()
    followers.notify_change()
    await followers.wait_settled()


async def test_changes_are_settled_after_the_refresh(path: Path) -> None:
    followers, one, other = Followers(), Looking(), Looking()
    async with followers.listen(path), one.following(path), other.following(path):
        await asyncio.gather(one.wants.wait(), other.wants.wait())  # whoever comes looks first of all
        await followers.wait_settled()
        assert (one.looks, other.looks) == (1, 1)
        one.may.clear()
        one.wants.clear()
        followers.notify_change()
        settled = asyncio.ensure_future(followers.wait_settled())
        await one.wants.wait()
        assert not settled.done()
        one.may.set()
        await settled
        assert (one.looks, other.looks) == (2, 2)


async def test_a_disconnected_follower_is_not_awaited(path: Path) -> None:
    followers, one = Followers(), Looking()
    async with followers.listen(path):
        async with one.following(path):
            await one.wants.wait()
            one.may.clear()
            followers.notify_change()
            settled = asyncio.ensure_future(followers.wait_settled())
        await settled


async def test_a_slow_follower_is_disconnected_and_reconnects(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    followers, one = Followers(), Looking()
    async with followers.listen(path), one.following(path):
        await one.wants.wait()
        await followers.wait_settled()
        monkeypatch.setattr(module, "SETTLE_TIMEOUT", 0.01)
        one.may.clear()
        followers.notify_change()
        with caplog.at_level(logging.WARNING):
            await followers.wait_settled()
        assert "did not load a change of models" in caplog.text
        one.wants.clear()
        one.may.set()
        await one.wants.wait()  # it is there again


@pytest.mark.parametrize("fault", [OSError("the disk"), RuntimeError("a fault of ours")])
async def test_a_failed_refresh_is_retried(path: Path, fault: Exception) -> None:
    followers, one = Followers(), Looking()
    one.fault = fault
    async with one.following(path), followers.listen(path):
        while one.looks < 2:
            await one.wants.wait()
            one.wants.clear()
            await asyncio.wait_for(followers.wait_settled(), 20)


async def test_a_follower_reconnects_to_a_restarted_writer(path: Path) -> None:
    one = Looking()
    async with one.following(path):
        for _ in range(2):
            one.wants.clear()
            followers = Followers()
            async with followers.listen(path):
                await one.wants.wait()
                await followers.wait_settled()
    assert one.looks == 2


async def test_a_restarted_writer_waits_for_its_followers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    followers, one, other = Followers(), Looking(), Looking()
    async with one.following(path):
        await one.abreast.wait()  # nobody is there to follow
        other.may.clear()
        async with followers.listen(path), other.following(path):
            back = asyncio.ensure_future(followers.wait_connected(2))
            await other.wants.wait()
            assert not back.done() and not other.abreast.is_set()
            other.may.set()
            await back
            assert (one.looks, other.looks) == (1, 1)
            await other.abreast.wait()
            monkeypatch.setattr(module, "GATHER_TIMEOUT", 0.01)
            await followers.wait_connected(3)  # one of them does not come


async def test_a_follower_that_cannot_refresh_is_awaited(path: Path) -> None:
    followers, one = Followers(), Looking()
    async with followers.listen(path), one.following(path):
        await followers.wait_connected(1)
        one.fault = OSError("the disk")
        followers.notify_change()
        await followers.wait_settled()
        assert one.looks == 3
