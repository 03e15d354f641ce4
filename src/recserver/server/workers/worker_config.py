"""What a serving process is told when it is started."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

from recserver.server.settings import Settings, load_settings


class Role(StrEnum):
    """What a serving process does beside answering from models."""

    WRITER = "writer"
    """It has the data folder: trains, and answers what only it can know."""
    FOLLOWER = "follower"
    """It asks the writer whatever does not follow from a model alone."""
    READER = "reader"
    """It is one of several read-only servers without a writer among them."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """One of the serving processes.

    Attributes:
        supervisor: the process that starts it, and that it ends with.
        folder: where the sockets between the processes lie, which others cannot enter.
        workers: how many processes serve.
        first: whether nobody else may listen on the port yet, not even who would share it.
    """

    role: Role
    data_dir: str
    host: str
    port: int
    socket_folder: str
    supervisor_pid: int
    workers: int
    first: bool = False

    @classmethod
    def from_json(cls, text: str) -> Self:
        """A place as :meth:`command` wrote it."""
        told = json.loads(text)
        return cls(**told | {"role": Role(told["role"])})

    def command(self, *, first: bool) -> list[str]:
        """What starts the process."""
        told = json.dumps(asdict(replace(self, first=first)))
        return [sys.executable, "-P", "-m", "recserver.server.workers", told]

    def settings(self) -> Settings:
        """Those of the environment, the same for all processes, as far as they are not its own.

        Kept answers take together what the settings say.
        """
        read_only = self.role is not Role.WRITER
        common = load_settings(host=self.host, port=self.port, read_only=read_only, workers=self.workers)
        return common.model_copy(update={"answer_cache": -(-common.answer_cache // self.workers)})

    @property
    def request_socket(self) -> Path:
        """The socket on which the writer answers the followers' questions."""
        return Path(self.socket_folder) / "requests"

    @property
    def change_socket(self) -> Path:
        """The socket on which the writer tells that other models serve."""
        return Path(self.socket_folder) / "changes"
