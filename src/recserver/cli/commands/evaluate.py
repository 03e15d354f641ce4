"""``recserver evaluate``: algorithms side by side on somebody's own data, without a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from recserver.cli.output import (
    EXIT_FAILED,
    UsageError,
    console,
    exit_on_error,
    print_error,
    print_json,
    print_rows,
    printable,
)
from recserver.core.errors import InvalidInput

if TYPE_CHECKING:
    from recserver.algorithms.evaluation.splitting import Holdout
    from recserver.algorithms.interactions import Interactions
    from recserver.training.algorithm_comparison import CandidateOutcome, ColumnNames, OnCandidateProgress

METRICS = {"ndcg_at_10": "ndcg_at_10", "recall_at_20": "recall_at_20", "hr_at_10": "hr_at_10",
           "coverage": "coverage_at_10"}  # fmt: skip
"""How a metric is called here, and in ``model_metrics``."""


HEADERS = "algorithm", *METRICS, "seconds", "peak MB", "error"


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What the command line says, as it says it."""

    data: Path | None
    train: Path | None
    test: Path | None
    algorithms: str | None
    hyperparameters: str | None
    columns: Mapping[str, str | None]
    split: str | None
    seed: int | None


def evaluate(options: EvaluateOptions, *, as_json: bool) -> None:
    """Compare algorithms, and show what came of each."""
    with exit_on_error():
        _evaluate(options, as_json=as_json)


def _evaluate(options: EvaluateOptions, *, as_json: bool) -> None:
    _check_options(options)
    given = _hyperparameters(options.hyperparameters)
    names = None if options.algorithms is None else _names(options.algorithms)

    from joblib import cpu_count  # so late that wrong options are told at once

    from recserver.training.algorithm_comparison import compare, conclusions
    from recserver.training.worker.evaluate import popularity_metrics

    named = None if names is None else _candidates(names, given)
    holdout = _holdout(options)
    candidates = named or _candidates(_fitting_algorithms(holdout.training), given)
    with _progress_display(as_json, len(candidates)) as follow:
        rows = compare(holdout, candidates, int(cpu_count()), follow)
    if as_json:
        print_json([_row_to_json(row) for row in rows])
    else:
        baseline = popularity_metrics(holdout)
        _print_results(rows, baseline, holdout)
        for sentence in conclusions(rows, baseline, len(holdout.users)):
            console.print(printable(sentence), markup=False)
    if all(row.result is None for row in rows):
        sys.exit(EXIT_FAILED)


def _check_options(options: EvaluateOptions) -> None:
    """Refuse options that do not go together."""
    pair = options.train is not None, options.test is not None
    if any(pair) and (options.data is not None or not all(pair)):
        raise UsageError("--train and --test stand together and in place of --data: give both, or --data alone.")
    if options.data is None and not any(pair):
        raise UsageError("There is nothing to evaluate on: name a file by --data, or two by --train and --test.")
    if any(pair) and (options.split is not None or options.seed is not None):
        raise UsageError("--train and --test are a split already: leave out --split and --seed.")
    if options.split == "time" and options.seed is not None:
        raise UsageError("--seed is for chance, and --split time leaves nothing to it: leave one of them out.")
    named = [name for name in options.columns.values() if name is not None]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise UsageError(f"The column {twice!r} is given twice: each option names a column of its own.")


def _hyperparameters(text: str | None) -> dict[str, Any]:
    example = 'write it like {"als": {"n_components": 32}}'
    try:
        given = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise UsageError(f"--hyperparameters is no JSON: {example}.") from None
    if not isinstance(given, dict):
        raise UsageError(f"--hyperparameters is no JSON object: {example}.")
    return given


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(name for name in (part.strip() for part in text.split(",")) if name))
    if not names:
        raise UsageError("--algorithms names none: write it like nmf,als,ease, or leave it out for all that fit.")
    return names


def _candidates(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    from recserver.training.algorithm_comparison import validate_candidates

    try:
        return validate_candidates(names, given)
    except InvalidInput as error:
        raise UsageError(str(error)) from None


def _fitting_algorithms(interactions: Interactions) -> list[str]:
    from recserver.training.algorithm_comparison import applicable_algorithms

    names, left_out = applicable_algorithms(interactions)
    for sentence in left_out:
        print_error(sentence)
    return names


def _holdout(options: EvaluateOptions) -> Holdout:
    """What to learn from and what to foretell."""
    from recserver.algorithms.evaluation.given_split import holdout_from_split
    from recserver.algorithms.evaluation.splitting import hold_out
    from recserver.training.algorithm_comparison import ColumnNames

    timestamp = options.columns["timestamp"]
    by_time = options.split == "time" or (options.split is None and options.seed is None and timestamp is not None)
    if by_time and timestamp is None:
        timestamp = "timestamp"
    columns = ColumnNames(**{**options.columns, "timestamp": timestamp})
    if options.data is not None:
        holdout = hold_out(_read(options.data, columns), seed=options.seed or 0, use_times=by_time)
        why = "nobody has two items, or what is held out has no positive rating"
    else:
        training, test = (_read(path, columns) for path in (options.train, options.test) if path is not None)
        holdout = holdout_from_split(training, test)
        why = "nobody in --test is in --train and has something positive there that is new"
    if holdout is None:
        raise InvalidInput(f"There is nothing to foretell: {why}. Check the columns, or give more data.")
    return holdout


def _read(path: Path, columns: ColumnNames) -> Interactions:
    from recserver.server.settings import load_settings
    from recserver.training.algorithm_comparison import MissingColumn, read_file

    if not path.is_file():
        raise InvalidInput(f"There is no file {path}: check the path.")
    try:
        return read_file(path, columns, load_settings().source_policy(path.parent))
    except MissingColumn as error:
        raise UsageError(str(error)) from None


@contextmanager
def _progress_display(as_json: bool, count: int) -> Iterator[OnCandidateProgress]:
    """Tell on standard error which algorithm is at work: as a bar on a terminal, as lines elsewhere."""
    from recserver.cli.run_progress import BarDisplay, RunProgress

    on, begun = Console(stderr=True, highlight=False, soft_wrap=True), list[str]()

    def line(name: str, progress: Any) -> None:
        if name not in begun:
            begun.append(name)
            if not as_json:
                on.print(f"{printable(name)} ({len(begun)} of {count})", markup=False)

    if not on.is_terminal:
        yield line
        return
    with BarDisplay(on) as bar:

        def redraw(name: str, progress: Any) -> None:
            if name not in begun:
                begun.append(name)
            stage = f"{name} ({len(begun)} of {count}): {progress.stage}"
            bar.show(RunProgress.model_validate(progress.model_dump() | {"stage": stage}))

        yield redraw


def _row_to_json(row: CandidateOutcome) -> dict[str, Any]:
    """A row for programs."""
    keys = "algorithm", *METRICS, "seconds", "peak_mb"
    if row.result is None:
        return dict.fromkeys(keys) | {"algorithm": row.algorithm, "error": row.error}
    found = row.result
    values = (found.metrics[name] for name in METRICS.values())
    return dict(zip(keys, (row.algorithm, *values, found.seconds, found.peak_mb), strict=True))


def _print_results(rows: Sequence[CandidateOutcome], baseline: Mapping[str, float], holdout: Holdout) -> None:
    training, how = holdout.training, "of each user's latest pairs" if holdout.by_time else "of pairs"
    console.print(
        f"{len(training.users)} users, {len(training.items)} items, {training.n_pairs} pairs to learn from; "
        f"{len(holdout.items)} {how} to foretell, of {len(holdout.users)} users.",
        markup=False,
    )
    lines = [_table_row(row) for row in sorted(rows, key=lambda row: -row.ndcg)]
    if all(row.algorithm != "popular" for row in rows):
        figures = (f"{baseline[name]:.4f}" for name in METRICS.values())
        lines.append(("popularity, to compare", *figures, None, None, None))
    print_rows(HEADERS, lines, key_column="algorithm")


def _table_row(row: CandidateOutcome) -> tuple[Any, ...]:
    if row.result is None:
        return row.algorithm, *([None] * (len(METRICS) + 2)), row.error
    figures = (f"{row.result.metrics[name]:.4f}" for name in METRICS.values())
    peak = row.result.peak_mb
    return row.algorithm, *figures, f"{row.result.seconds:.2f}", None if peak is None else f"{peak:.0f}", None
