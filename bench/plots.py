"""Plots of the results as SVG files in ``results/``, if matplotlib is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from bench.report import RESULTS

Draw = Callable[[Any, Mapping[Any, float]], None]


def plot_bars(name: str, panels: Mapping[str, Mapping[str, float]]) -> None:
    """A bar chart in each panel, side by side."""

    def draw(axes: Any, values: Mapping[str, float]) -> None:
        bars = axes.barh(list(values), list(values.values()), color="#1b6ca8")
        axes.bar_label(bars, fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}", padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.25)

    _plot(name, panels, draw)


def plot_by_rows(name: str, panels: Mapping[str, Mapping[int, float]]) -> None:
    """Values by rows in each panel, on logarithmic axes, with a line of linear growth."""

    def draw(axes: Any, values: Mapping[int, float]) -> None:
        largest = max(values)
        linear = [values[largest] * count / largest for count in values]
        axes.loglog(list(values), linear, "--", color="#777777", label="linear")
        axes.loglog(list(values), list(values.values()), "o-", color="#1b6ca8")
        for count, value in values.items():
            axes.annotate(f"{value:,.3g}", (count, value), (0, 8), textcoords="offset points", ha="center")
        axes.set_xlabel("rows")
        axes.legend()

    _plot(name, panels, draw)


def _plot(name: str, panels: Mapping[str, Mapping[Any, float]], draw: Draw) -> None:
    if find_spec("matplotlib") is None:
        print("No plot: matplotlib is not installed.")
        return
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.fonttype"] = "none"  # keep text as text
    mpl.rcParams["svg.hashsalt"] = name  # reproducible files
    figure = Figure(figsize=(5.5 * len(panels), 3.8), layout="constrained")
    for axes, (title, values) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        axes.set_title(title)
        draw(axes, values)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    print(f"Plot: {path}")
