"""Plug-ins, installed like a stranger's: a data chef that does as its entry says, an algorithm that is quick."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recserver.plugin import Batch, FitContext, FittedModel, Interactions, SourceFailed, SourcePolicy

COLUMNS = ("user_id", "item_id", "rating")
ROWS = [(f"u{user}", f"i{item}", 1 + (user * item) % 5) for user in range(6) for item in range(user % 4, 5)]

_KEPT: list[np.ndarray] = []


def _batch(rows: list[tuple[str, str, int]]) -> Batch:
    columns = zip(COLUMNS, zip(*rows, strict=True), strict=True)
    return Batch(COLUMNS, {name: np.array(one, object) for name, one in columns})


class StepsChef:
    """Each step is a list: the name of a method, and its arguments. See :class:`recserver.plugin.Chef`."""

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        self._steps = entry.get("steps", [["rows"]])

    def warnings(self) -> list[str]:
        return []

    def batches(self, wanted: Collection[str]) -> Iterator[Batch]:
        for name, *arguments in self._steps:
            if name == "rows":
                yield _batch(ROWS)
            elif name == "some_rows":  # others every time
                yield _batch([(f"v{secrets.token_hex(3)}", "i0", 1)])
            else:
                getattr(self, name)(*arguments)

    def wait(self, fifo: str) -> None:
        """Go on when somebody opens the other end."""
        Path(fifo).read_bytes()

    def pause(self, seconds: float) -> None:
        """Go on after a while."""
        time.sleep(seconds)

    def hold(self) -> None:
        """Never come back, and let no other thread of this process run meanwhile."""
        ctypes.PyDLL(None).sleep(600)

    def write(self, text: str) -> None:
        """Write to standard output in every way there is, and read from standard input."""
        print(text, flush=True)
        os.write(1, text.encode())
        subprocess.run([sys.executable, "-c", f"print({text!r})"], check=True)
        if sys.stdin.read() or os.read(0, 1):
            raise AssertionError("there is something to read")

    def refuse(self, sentence: str) -> None:
        raise SourceFailed(sentence)

    def crash(self, length: int) -> None:
        raise LookupError("x" * length)

    def run_out_of_memory(self) -> None:
        raise MemoryError

    def allocate(self) -> None:
        """Take memory for ever, a little at a time."""
        taken = list[bytes]()
        while True:
            taken.append(b"x" * 2**20)

    def allocate_arrays(self) -> None:
        """Take memory for ever, in ever larger pieces."""
        for power in range(20, 50):
            np.ones(2**power, np.uint8)

    def take(self, mebibytes: int) -> None:
        """Take so much memory for a moment."""
        np.ones(mebibytes * 2**20, np.uint8)

    def keep(self, mebibytes: int) -> None:
        """Take so much memory for as long as this process lives."""
        _KEPT.append(np.ones(mebibytes * 2**20, np.uint8))

    def leave(self, status: int) -> None:
        os._exit(status)

    def report(self, path: str) -> None:
        """Write what this process was given: its environment, and the files it holds open."""
        found = Path("/proc/self/fd")
        inodes = [one.stat().st_ino for one in found.iterdir() if one.exists()]
        Path(path).write_text(json.dumps({"environment": dict(os.environ), "inodes": inodes, "path": sys.path}))


class Quick:
    """Scores every item by its popularity; loads no library. See :class:`recserver.plugin.Algorithm`."""

    model_type = "quick"
    model_class = "QuickRecommendationModel"

    def __init__(self) -> None:
        self.default_params: dict[str, Any] = {}

    def check(
        self, hyperparameters: Mapping[str, Any], *, ignore: Collection[str] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        return dict(hyperparameters), []

    def max_warm_starts(self, hyperparameters: Mapping[str, Any]) -> int:
        return 0

    def tune(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> dict[str, Any]:
        return {}

    def fit(
        self, interactions: Interactions, hyperparameters: Mapping[str, Any], context: FitContext
    ) -> FittedModel:
        users = np.ones((len(interactions.users), 1), np.float32)
        items = interactions.item_counts().astype(np.float32).reshape(-1, 1)
        return FittedModel(users, items, dict(hyperparameters))


quick = Quick()
