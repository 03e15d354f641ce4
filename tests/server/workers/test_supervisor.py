"""Restart delays of the supervisor, and what it requires."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recserver import Settings
from recserver._internal.core.errors import ServerCannotStart
from recserver._internal.server.workers.supervisor import ServingProcess, socket_folder, supervise
from recserver._internal.server.workers.worker_config import Role, WorkerConfig

pytestmark = pytest.mark.process

CONFIG = WorkerConfig(
    role=Role.FOLLOWER,
    data_dir="data",
    host="127.0.0.1",
    port=1,
    socket_folder="folder",
    supervisor_pid=1,
    workers=2,
)


class Waiting:
    """A clock on which every wait passes at once, and is taken down."""

    def __init__(self) -> None:
        self.moment, self.waits = 0.0, list[float]()

    def monotonic(self) -> float:
        return self.moment

    async def wait(self, event: asyncio.Event, deadline: float) -> bool:
        self.waits.append(deadline - self.moment)
        self.moment = deadline
        return event.is_set()


class ShortLived(ServingProcess):
    """A process that ends at once; by the clock it lives as long as it is to."""

    def __init__(self, lives: Iterator[float], told_to_stop: asyncio.Event, clock: Waiting) -> None:
        super().__init__(CONFIG, told_to_stop, clock)  # type: ignore[arg-type]
        self.lives, self.told_to_stop, self.clock = lives, told_to_stop, clock

    async def start(self, *, first: bool = False) -> bool:
        ready = await super().start(first=first)
        life = next(self.lives, None)
        if life is None:
            self.told_to_stop.set()
        else:
            self.clock.moment += life
        return ready


@pytest.mark.parametrize("command", [[sys.executable, "-S", "-c", ""], ["/no/such/interpreter"]])
async def test_restart_delays_increase(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setattr(WorkerConfig, "command", lambda _, *, first: command)
    clock = Waiting()
    process = ShortLived(iter([5.0] * 7 + [60.0] + [5.0] * 2), asyncio.Event(), clock)
    assert not await process.start()
    await process.keep_running()
    assert clock.waits == [0, 1, 2, 4, 8, 16, 30, 0, 1, 2]


async def test_several_processes_need_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("recserver._internal.server.workers.supervisor.sys.platform", "darwin")
    with pytest.raises(ServerCannotStart, match="need Linux"):
        await supervise(tmp_path, Settings(port=0, workers=2))


def test_sockets_need_a_folder_with_a_short_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    for folder in (deep, tmp_path / "missing"):
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        with pytest.raises(ServerCannotStart, match="TMPDIR"):
            socket_folder()
    assert list(deep.iterdir()) == []
    monkeypatch.undo()
    with socket_folder() as found:
        assert Path(found).stat().st_mode & 0o077 == 0
