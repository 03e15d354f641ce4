"""The configuration of a serving process."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from recserver._internal.server.settings import Settings, load_settings


class Role(StrEnum):
    """What a serving process does in addition to recommending."""

    WRITER = "writer"
    """Writes the data folder: trains, and answers the requests that need the writer."""
    FOLLOWER = "follower"
    """Forwards to the writer all requests that it cannot answer from a model alone."""
    READER = "reader"
    """One of several read-only processes without a writer."""


class WorkerConfig(BaseModel):
    """The configuration of a serving process.

    Attributes:
        supervisor_pid: the process that starts it, and with which it ends.
        socket_folder: folder of the sockets between the processes, which other users cannot access.
        workers: number of serving processes.
        first: whether it is the first process on the port, which must not be in use by any other.
    """

    model_config = ConfigDict(frozen=True)

    role: Role
    data_dir: str
    host: str
    port: int
    socket_folder: str
    supervisor_pid: int
    workers: int
    first: bool = False

    def command(self, *, first: bool) -> list[str]:
        """The command that starts the process; its argument is this configuration as JSON."""
        config = self.model_copy(update={"first": first})
        return [sys.executable, "-P", "-m", "recserver._internal.server.workers", config.model_dump_json()]

    def settings(self) -> Settings:
        """The settings of the environment, with those of this process.

        Each process gets an equal share of the response cache.
        """
        read_only = self.role is not Role.WRITER
        common = load_settings(host=self.host, port=self.port, read_only=read_only, workers=self.workers)
        return common.model_copy(update={"answer_cache": -(-common.answer_cache // self.workers)})

    @property
    def request_socket(self) -> Path:
        """The socket to which followers forward requests."""
        return Path(self.socket_folder) / "requests"

    @property
    def change_socket(self) -> Path:
        """The socket on which the writer announces changes of models."""
        return Path(self.socket_folder) / "changes"
