"""The Dockerfile's commands, run in a plain virtual environment: there may be no engine to build it with."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.process

KEY = "a key that is long enough"


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its arguments, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def arguments(name: str) -> list[str]:
    """What follows every instruction of one name."""
    return [rest for instruction, rest in instructions() if instruction == name]


def environment() -> dict[str, str]:
    """What the ENV instructions set."""
    return dict(pair.split("=", 1) for rest in arguments("ENV") for pair in rest.split())


def test_the_image_is_small_and_harmless() -> None:
    stages = arguments("FROM")
    assert len(stages) == 2
    assert all("slim" in stage for stage in stages)
    last = [name for name, _ in instructions()][::-1]
    after_last_stage = instructions()[len(instructions()) - last.index("FROM") :]
    assert ("USER", "10001:10001") in after_last_stage
    assert ("VOLUME", "/data") in after_last_stage
    assert ("COPY", "--from=build /opt/venv /opt/venv") in after_last_stage
    assert json.loads(arguments("ENTRYPOINT")[0]) == ["recserver"]
    assert environment()["UV_COMPILE_BYTECODE"] == "1"  # the image's user cannot write what Python compiles
    assert "pip install" not in " ".join(rest for name, rest in after_last_stage if name == "RUN")


@pytest.fixture
async def installed(tmp_path: Path) -> Path:
    """The build stage's commands on the files it copies; the virtual environment that comes of it."""
    source, venv = tmp_path / "src", tmp_path / "venv"
    source.mkdir()
    for rest in arguments("COPY")[:-1]:
        *names, _ = rest.split()
        for name in names:
            path = ROOT / name
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, source / name)
    uv = Path(sys.executable).with_name("uv")
    commands = [rest for rest in arguments("RUN") if rest.startswith("uv ")]
    assert len(commands) == 2
    # Compiling all modules takes most of the time, and copying them the rest: the installed files are the same.
    ours = {"UV_COMPILE_BYTECODE": "0", "UV_LINK_MODE": "hardlink"}
    for command in commands:
        extras = command.replace("uv ", f"{uv} ", 1) + f" --python {sys.executable} --quiet"
        process = await asyncio.create_subprocess_shell(
            extras, cwd=source, stderr=PIPE,
            env={**os.environ, **environment(), **ours, "UV_PROJECT_ENVIRONMENT": str(venv), "VIRTUAL_ENV": ""},
        )  # fmt: skip
        _, err = await process.communicate()
        assert process.returncode == 0, err.decode()
    return venv


@pytest.mark.slow
async def test_what_it_installs_serves_and_is_healthy(
    installed: Path, tmp_path: Path, unused_tcp_port: int
) -> None:
    port = str(unused_tcp_port)
    surroundings = {
        **environment(),
        "PATH": f"{installed}/bin:{os.environ['PATH']}",
        "RECSERVER_API_KEY": KEY,
        "RECSERVER_DATA": str(tmp_path / "data"),
        "RECSERVER_PORT": port,
    }
    entry = [*json.loads(arguments("ENTRYPOINT")[0]), *json.loads(arguments("CMD")[0])]
    check = json.loads(arguments("HEALTHCHECK")[0].split("CMD", 1)[1])
    check[0] = str(installed / "bin" / check[0])
    unhealthy = await asyncio.create_subprocess_exec(*check, env=surroundings, stderr=PIPE)
    await unhealthy.communicate()
    assert unhealthy.returncode != 0
    server = await asyncio.create_subprocess_exec(
        str(installed / "bin" / entry[0]), *entry[1:], cwd=tmp_path, env=surroundings, stderr=PIPE
    )
    try:
        assert server.stderr is not None
        first = await server.stderr.readline()
        assert f"0.0.0.0:{port}" in first.decode()
        healthy = await asyncio.create_subprocess_exec(*check, env=surroundings)
        assert await healthy.wait() == 0
        server.send_signal(signal.SIGTERM)
        await server.communicate()
        assert server.returncode == 0
    finally:
        if server.returncode is None:
            server.kill()
