"""Terminals in which tests follow a page: a shell for its commands, and one for each program that does not end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.helpers.pids import take_interrupts

MAX_SECONDS = 60.0
"""Limit for one block, and for a program to be ready."""

MAX_LINE_BYTES = 2**20
END_OF_BLOCK = "=== end of block"
VERBOSE = ".verbose"
SERVER_PORT = 9999


class Terminals:
    """A shell in a folder, which keeps its variables from block to block, and programs beside it.

    Attributes:
        ports: ports on the pages, and those that are used instead; 0 until a program has taken a free one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {SERVER_PORT: 0, 8080: 0}
        self._programs: dict[str, Process] = {}
        self._shell: Process | None = None
        self._configure_curl()

    async def run(self, commands: str) -> str:
        """Run commands in the shell, of which none may fail; returns what they print."""
        if self._shell is None:
            self._shell = await self._start("bash", "--norc")
        shell = self._shell
        assert shell.stdin is not None
        commands = (  # they must not read the standard input, which is the next block
            f"set -eo pipefail; export RECSERVER_PORT={self.ports[SERVER_PORT]}\n"
            f"{{\n{self._with_ports(commands)}\n}} </dev/null\nprintf '\\n{END_OF_BLOCK}\\n'\n"
        )
        shell.stdin.write(commands.encode())
        printed = await _lines_until(shell, END_OF_BLOCK)
        return "".join(printed[:-1])

    async def start(self, command: str, ready: str, port: int | None = None) -> None:
        """Start a program that runs until it is stopped, and wait for a line that matches ``ready``.

        Args:
            port: the port on the page; its group in ``ready`` is the one that is used.
        """
        verbose = str(self.folder / VERBOSE)
        program = await self._start("bash", "-c", f"exec {self._with_ports(command)}", CURL_HOME=verbose)
        self._programs[command] = program
        found = re.search(ready, (await _lines_until(program, ready))[-1])
        assert found is not None
        if port is not None:
            self.ports[port] = int(found[1])

    async def wait_for(self, command: str, pattern: str) -> None:
        """Wait until a started program prints a line that matches a pattern."""
        await _lines_until(self._programs[command], pattern)

    async def run_python(self, name: str, code: str) -> str:
        """Run a script; returns what it prints."""
        (self.folder / name).write_text(self._with_ports(code))
        return await self.run(f"python {name}")

    async def start_python(self, name: str, code: str, ready: str, port: int | None = None) -> None:
        """Start a script that runs until it is stopped."""
        (self.folder / name).write_text(self._with_ports(code))
        await self.start(f"python {name}", ready, port)

    async def close(self) -> None:
        """Close the shell, and stop the programs as Ctrl-C does."""
        if self._shell is not None:
            await self._shell.communicate(b"")  # closes its input
        for program in reversed(self._programs.values()):
            with suppress(ProcessLookupError):  # it has ended
                os.kill(program.pid, signal.SIGINT)  # send_signal() would take its status from asyncio
            await program.communicate(b"")

    def _configure_curl(self) -> None:
        """No progress bars; what runs until it is stopped prints the headers, as the stream may be silent."""
        (self.folder / VERBOSE).mkdir(exist_ok=True)
        (self.folder / ".curlrc").write_text("silent\nshow-error\n")
        (self.folder / VERBOSE / ".curlrc").write_text("silent\nverbose\n")

    async def _start(self, *command: str, **environment: str) -> Process:
        settings = "RECSERVER_", "PYTHON"  # none, as a new user has them
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
        return await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, stdin=PIPE, stdout=PIPE, stderr=STDOUT, limit=MAX_LINE_BYTES,
            preexec_fn=take_interrupts,
            env=inherited | {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "CURL_HOME": str(self.folder),
                "PYTHONUNBUFFERED": "1",
                "RECSERVER_PORT": "0",
                "RECSERVER_LOG_FORMAT": "console",
                "RECSERVER_TRAINING_PRIORITY": "low",  # other tests use the processor too
            } | environment,
        )  # fmt: skip

    def _with_ports(self, text: str) -> str:
        return re.sub(r"\b(9999|8080)\b", lambda port: str(self.ports[int(port[0])]), text)


@asynccontextmanager
async def terminals(folder: Path) -> AsyncIterator[Terminals]:
    """Terminals in a folder; what runs in them ends with the context."""
    opened = Terminals(folder)
    try:
        yield opened
    finally:
        await opened.close()


async def _lines_until(program: Process, pattern: str) -> list[str]:
    """The next lines of a program, up to the first that matches a pattern.

    Raises:
        AssertionError: if the program ends before; it shows the lines.
        TimeoutError: after ``MAX_SECONDS``.
    """
    assert program.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(MAX_SECONDS):
        while not lines or not re.search(pattern, lines[-1]):
            lines.append((await program.stdout.readline()).decode())
            assert lines[-1], f"It ended early, after:\n{''.join(lines)}"
    return lines
