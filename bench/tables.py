"""``python -m bench tables``: the contents of ``results/`` as Markdown."""

from __future__ import annotations

import json

from bench.report import RESULTS, format_value, summary_rows


async def main() -> None:
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        machine = "{cores} cores, Python {python}".format(**result["machine"])
        if "rows" in result:
            title, columns = f"**{result['title']}**", list(result["rows"][0])
            rows = [map(format_value, row.values()) for row in result["rows"]]
        else:
            title, columns = f"**{result['title']}**, {result['unit']}", ["", "median", "min", "max", "ratio"]
            rows = summary_rows(result["rounds"])
            machine = f"{max(map(len, result['rounds'].values()))} rounds, {machine}"
        print(f"{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        for row in rows:
            print(f"| {' | '.join(row)} |")
        print(f"\n{machine}. {result['note']}\n")
