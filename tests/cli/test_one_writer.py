"""One writer for each data folder, between processes: the error of the second names the first."""

from __future__ import annotations

import asyncio
import json
import socket
from asyncio.subprocess import Process
from pathlib import Path

import pytest

from tests.helpers.cli_call import Command
from tests.helpers.cli_process import Start, url_of

pytestmark = pytest.mark.process

STARTS = 5

HERE = ("serve", "--port", "0", "--data", "here")


async def sentence_of(process: Process) -> str:
    """The one line with which a process that was refused ended."""
    _, err = await process.communicate()
    (line,) = err.decode().splitlines()
    assert process.returncode == 3, line
    return line


def refused(line: str, holder: Process) -> bool:
    """Whether a sentence names the process that has the folder, and every remedy."""
    return all(
        part in line
        for part in (f"process {holder.pid} on host {socket.gethostname()!r}", "stop", "--data", "--read-only")
    )


@pytest.mark.slow
async def test_of_several_starts_at_the_same_time_one_wins(start: Start, tmp_path: Path) -> None:
    servers = await asyncio.gather(*(start(*HERE) for _ in range(STARTS)))
    first_lines = await asyncio.gather(*(one.stderr.readline() for one in servers if one.stderr))
    first_output = {server: line.decode() for server, line in zip(servers, first_lines, strict=True)}
    winners = [server for server, line in first_output.items() if "listens on" in line]
    assert len(winners) == 1, first_output.values()
    (winner,) = winners
    losers = [server for server in servers if server is not winner]
    assert [await one.wait() for one in losers] == [3] * (STARTS - 1)
    assert all(refused(first_output[one], winner) for one in losers), first_output.values()
    assert winner.returncode is None
    holder = json.loads((tmp_path / "here/.lock").read_text())
    assert holder == {"pid": winner.pid, "host": socket.gethostname()}


@pytest.mark.slow
async def test_after_a_kill_the_next_one_starts(start: Start, tmp_path: Path) -> None:
    first = await start(*HERE)
    await url_of(first)
    assert refused(await sentence_of(await start(*HERE)), first)
    first.kill()
    await first.wait()
    assert json.loads((tmp_path / "here/.lock").read_text())["pid"] == first.pid  # it could not clean up
    second = await start(*HERE)
    await url_of(second)
    assert refused(await sentence_of(await start(*HERE)), second)
    second.terminate()
    await second.communicate()
    assert (second.returncode, (tmp_path / "here/.lock").read_text()) == (0, "")


@pytest.mark.slow
async def test_a_second_server_and_the_demo_leave_a_running_server_alone(start: Start, tmp_path: Path) -> None:
    first = await start(*HERE)
    port = (await url_of(first)).rsplit(":", 1)[1]
    second = await start("serve", "--port", port, "--data", "here")
    assert refused(await sentence_of(second), first)  # which names the folder, not the port
    task = tmp_path / "here/tasks/train_restaurants.json"
    task.write_text("{}")
    assert refused(await sentence_of(await start("demo", "--data", "here")), first)
    assert task.exists() and not (tmp_path / "here/visits.csv").exists()


@pytest.mark.slow
async def test_read_only_takes_no_lock_and_a_writer_may_join(start: Start, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    reader = await start(*HERE, "--read-only")
    await url_of(reader)
    assert list((tmp_path / "here").iterdir()) == []
    writer = await start(*HERE)
    await url_of(writer)
    another = await start(*HERE, RECSERVER_READ_ONLY="1")
    await url_of(another)


def test_there_must_be_a_folder_to_read(command: Command, tmp_path: Path) -> None:
    status, _, err = command(*HERE, "--read-only")
    assert (status, "There is no data folder" in err) == (2, True)
    assert not (tmp_path / "here").exists()
