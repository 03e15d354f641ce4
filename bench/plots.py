"""Plots of what was measured, in ``results/``. Without matplotlib there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from bench.report import RESULTS

Draw = Callable[[Any, Mapping[Any, float]], None]


def bars(name: str, panels: Mapping[str, Mapping[str, float]]) -> None:
    """Side by side, a panel for each title: a bar for each value."""

    def draw(axes: Any, values: Mapping[str, float]) -> None:
        drawn = axes.barh(list(values), list(values.values()), color="#1b6ca8")
        axes.bar_label(drawn, fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}", padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.25)

    _plot(name, panels, draw)


def by_rows(name: str, panels: Mapping[str, Mapping[int, float]]) -> None:
    """Side by side, a panel for each title: values by rows, both logarithmic, and a line of equal cost a row."""

    def draw(axes: Any, values: Mapping[int, float]) -> None:
        most = max(values)
        equal = [values[most] * count / most for count in values]
        axes.loglog(list(values), equal, "--", color="#777777", label="equal cost a row")
        axes.loglog(list(values), list(values.values()), "o-", color="#1b6ca8")
        for count, value in values.items():
            axes.annotate(f"{value:,.3g}", (count, value), (0, 8), textcoords="offset points", ha="center")
        axes.set_xlabel("rows")
        axes.legend()

    _plot(name, panels, draw)


def _plot(name: str, panels: Mapping[str, Mapping[Any, float]], draw: Draw) -> None:
    if find_spec("matplotlib") is None:
        print("There is no plot: matplotlib is not installed.")
        return
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.fonttype"] = "none"  # text stays text
    mpl.rcParams["svg.hashsalt"] = name  # the same figures give the same file
    figure = Figure(figsize=(5.5 * len(panels), 3.8), layout="constrained")
    for axes, (title, values) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        axes.set_title(title)
        draw(axes, values)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    print(f"The plot is {path}.")
