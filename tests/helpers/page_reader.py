"""Follows a page of the documentation as a reader does: block after block, in terminals."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tests.helpers.doc_blocks import Block, blocks_of
from tests.helpers.terminal import SERVER_PORT, Terminals

SERVE, EVENTS = "recserver serve --data data", "curl -N http://localhost:9999/events"

READY = {SERVE: (r"listens on http://127\.0\.0\.1:([0-9]+)", SERVER_PORT), EVENTS: ("^< HTTP/1.1 200 ", None)}
"""Commands that run until they are stopped: the line that shows that they are ready, the port that it shows."""

APP_READY = r"[Rr]unning on http://\w+:([0-9]+)"


class Transcript:
    """What the blocks of a page printed, in the order of the page."""

    def __init__(self) -> None:
        self._printed: list[tuple[Block, str]] = []

    def add(self, block: Block, printed: str) -> None:
        self._printed.append((block, printed))

    def of(self, text: str) -> str:
        """What the only block that contains a text printed."""
        (printed,) = (printed for block, printed in self._printed if text in block.code)
        return printed

    def answers(self, text: str = "") -> list[dict[str, Any]]:
        """The JSON objects that the blocks which contain a text printed, each in a line."""
        printed = [printed for block, printed in self._printed if text in block.code]
        return [json.loads(line) for lines in printed for line in lines.splitlines() if line.startswith('{"')]

    def refusals(self) -> list[str]:
        """The codes of all errors that the server answered."""
        return [answer["code"] for answer in self.answers() if answer.keys() >= {"detail", "error", "code"}]


async def follow(page: str, terminals: Terminals, not_run: Sequence[str] = ()) -> Transcript:
    """Run all blocks of shell and Python of a page in their order, each of which must succeed.

    Args:
        not_run: each is a text of the blocks that are not run.
    """
    blocks = blocks_of(page, "bash", "python")
    left_out = [block for block in blocks if any(text in block.code for text in not_run)]
    needless = [text for text in not_run if not any(text in block.code for block in left_out)]
    assert needless == [], f"no block of {page} has these texts"
    return await follow_blocks([block for block in blocks if block not in left_out], terminals)


async def follow_blocks(blocks: Sequence[Block], terminals: Terminals) -> Transcript:
    """Run blocks of shell and Python, each of which must succeed."""
    transcript = Transcript()
    for block in blocks:
        try:
            transcript.add(block, await _run(block, terminals))
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{block} failed:\n{block.code}\n{error}") from error
    return transcript


async def _run(block: Block, terminals: Terminals) -> str:
    name = f"line_{block.line}.py"
    if block.language == "python" and re.search(r"\b(?:run_app|uvicorn\.run)\(", block.code):
        await terminals.start_python(name, block.code, APP_READY, 8080)
    elif block.language == "python":
        return await terminals.run_python(name, block.code)
    elif (command := block.code.strip()) in READY:
        await terminals.start(command, *READY[command])
    else:
        return await terminals.run(block.code)
    return ""
