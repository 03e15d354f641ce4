"""``python -m bench tables``: what is in ``results/``, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench.report import RESULTS, shown


async def main() -> None:
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        if "rows" in found:
            _print_rows(found)
            continue
        medians = found["medians"]
        base = next(iter(medians.values()))
        print(f"**{found['title']}**, {found['unit']}\n")
        print("| | median | lowest | highest | to the first |\n|---|---|---|---|---|")
        for name, values in found["rounds"].items():
            figures = " | ".join(f"{one:,.4g}" for one in (medians[name], min(values), max(values)))
            print(f"| {name} | {figures} | {medians[name] / base:.2f} |")
        rounds = max(map(len, found["rounds"].values()))
        machine = found["machine"]
        print(f"\n{rounds} rounds, {machine['cores']} cores, Python {machine['python']}. {found['note']}\n")


def _print_rows(found: Mapping[str, Any]) -> None:
    columns = list(found["rows"][0])
    print(f"**{found['title']}**\n")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in found["rows"]:
        print(f"| {' | '.join(map(shown, row.values()))} |")
    machine = found["machine"]
    print(f"\n{machine['cores']} cores, Python {machine['python']}. {found['note']}\n")
