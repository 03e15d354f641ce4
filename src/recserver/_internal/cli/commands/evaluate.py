"""``recserver evaluate``: compare algorithms on a file of interactions, without a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

from joblib import cpu_count
from typer import Option

from recserver._internal.algorithms.evaluation.given_split import holdout_from_split
from recserver._internal.algorithms.evaluation.splitting import Holdout, hold_out
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.cli.command import EXIT_FAILED, AsJson, UsageError, command, new_app, usage_error_from
from recserver._internal.cli.output import error_console, print_error, print_json, print_line, print_rows
from recserver._internal.cli.run_progress import BarDisplay, RunProgress
from recserver._internal.core.errors import InvalidInput, escape
from recserver._internal.server.settings import load_settings
from recserver._internal.training.algorithm_comparison import (
    CandidateOutcome,
    ColumnNames,
    MissingColumn,
    OnCandidateProgress,
    applicable_algorithms,
    compare,
    conclusions,
    read_file,
    validate_candidates,
)
from recserver._internal.training.jobs import Progress
from recserver._internal.training.worker.evaluate import popularity_metrics

METRICS = {"ndcg_at_10": "ndcg_at_10", "recall_at_20": "recall_at_20", "hr_at_10": "hr_at_10",
           "coverage": "coverage_at_10"}  # fmt: skip
"""Names of the metrics in the output, and in ``model_metrics``."""

HEADERS = "algorithm", *METRICS, "seconds", "peak MB", "error"

app = new_app()

File = Annotated[
    Path | None, Option(metavar="FILE", help="CSV, JSON lines, Parquet, Arrow, as data chefs read them.")
]
Text = str | None
Pair = tuple[Path | None, Path | None]
Columns = Mapping[str, str | None]


@command(app)
def evaluate(
    *,
    data: File = None,
    train: Annotated[Path | None, Option(metavar="FILE", help="Training interactions, with --test.")] = None,
    test: Annotated[Path | None, Option(metavar="FILE", help="Held-out interactions, with --train.")] = None,
    algorithms: Annotated[
        Text, Option(metavar="NAMES", help="Such as nmf,als,ease; by default all that can be applied to the data.")
    ] = None,
    hyperparameters: Annotated[
        Text, Option(metavar="JSON", help='By algorithm, such as {"als": {"n_components": 32}}.')
    ] = None,
    user: Annotated[Text, Option(metavar="COLUMN", help="Column of the users; user_id by default.")] = None,
    item: Annotated[Text, Option(metavar="COLUMN", help="Column of the items; item_id by default.")] = None,
    rating: Annotated[
        Text, Option(metavar="COLUMN", help="Column of the ratings; rating by default, or 1 for all.")
    ] = None,
    timestamp: Annotated[Text, Option(metavar="COLUMN", help="Column of the times; none by default.")] = None,
    split: Annotated[
        Literal["time", "random"] | None,
        Option(help="Hold out each user's latest items, or random ones; time by default if --timestamp is given."),
    ] = None,
    seed: Annotated[
        int | None, Option(min=0, max=2**32 - 1, help="Seed of a random split; 0 if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare algorithms on your own data: accuracy on held-out interactions, time and memory.

    Each algorithm is fitted in a process of its own, without the held-out interactions. No server is needed.
    """
    columns = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
    _check_options(data, (train, test), columns, split, seed)
    overrides = _parse_hyperparameters(hyperparameters)
    candidates = None if algorithms is None else _candidates(_parse_names(algorithms), overrides)
    if split is None and seed is None and timestamp is not None:
        split = "time"
    holdout = _holdout(data, (train, test), columns, split, seed)
    if candidates is None:
        names, left_out = applicable_algorithms(holdout.training)
        for sentence in left_out:
            print_error(sentence)
        candidates = _candidates(names, overrides)
    with _progress_display(as_json, len(candidates)) as on_progress:
        rows = compare(holdout, candidates, int(cpu_count()), on_progress)
    if as_json:
        print_json([_row_to_json(row) for row in rows])
    else:
        how = "as given" if data is None else "each user's latest fifth" if holdout.by_time else "a random fifth"
        _print_results(rows, holdout, how)
    if all(row.result is None for row in rows):
        sys.exit(EXIT_FAILED)


def _check_options(data: Path | None, pair: Pair, columns: Columns, split: Text, seed: int | None) -> None:
    """Refuse options that cannot be combined."""
    given = [path is not None for path in pair]
    if any(given) and (data is not None or not all(given)):
        raise UsageError("--train and --test replace --data: give both of them, or --data alone.")
    if data is None and not any(given):
        raise UsageError("No data given: use --data, or --train and --test.")
    if any(given) and (split is not None or seed is not None):
        raise UsageError("--train and --test are already split: leave out --split and --seed.")
    if split == "time" and seed is not None:
        raise UsageError("--seed is for random splits: leave out --seed or --split time.")
    names = [name for name in columns.values() if name is not None]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"The column {twice!r} is given twice: each option needs a different column.")


def _parse_hyperparameters(text: str | None) -> dict[str, Any]:
    example = 'write it like {"als": {"n_components": 32}}'
    try:
        overrides = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise UsageError(f"--hyperparameters is not valid JSON: {example}.") from None
    if not isinstance(overrides, dict):
        raise UsageError(f"--hyperparameters is not a JSON object: {example}.")
    return overrides


def _parse_names(text: str) -> list[str]:
    names = list(dict.fromkeys(name for name in (part.strip() for part in text.split(",")) if name))
    if not names:
        raise UsageError("--algorithms is empty: write it like nmf,als,ease, or leave it out for all algorithms.")
    return names


def _candidates(names: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    with usage_error_from(InvalidInput):
        return validate_candidates(names, overrides)


def _holdout(data: Path | None, pair: Pair, columns: Columns, split: Text, seed: int | None) -> Holdout:
    """The training interactions and the held-out ones."""
    by_time = split == "time"
    timestamp = columns["timestamp"] or ("timestamp" if by_time else None)
    names = ColumnNames(**{**columns, "timestamp": timestamp})
    if data is not None:
        holdout = hold_out(_read(data, names), seed=seed or 0, use_times=by_time)
        reason = "no user has two items, or no held-out rating is positive"
    else:
        training, test = (_read(path, names) for path in pair if path is not None)
        holdout = holdout_from_split(training, test)
        reason = "no user of --test is in --train and has a new item with a positive rating"
    if holdout is None:
        raise InvalidInput(f"No held-out interactions to evaluate: {reason}. Check the columns, or use more data.")
    return holdout


def _read(path: Path, columns: ColumnNames) -> Interactions:
    if not path.is_file():
        raise InvalidInput(f"There is no file {path}: check the path.")
    with usage_error_from(MissingColumn):
        return read_file(path, columns, load_settings().source_policy(path.parent))


@contextmanager
def _progress_display(as_json: bool, total: int) -> Iterator[OnCandidateProgress]:
    """Show the current algorithm on standard error: a bar on a terminal, lines elsewhere unless ``as_json``."""
    started: list[str] = []
    with BarDisplay(error_console) if error_console.is_terminal else nullcontext() as bar:

        def show(name: str, progress: Progress) -> None:
            if is_new := name not in started:
                started.append(name)
            text = f"{name} ({len(started)} of {total})"
            if bar is not None:
                bar.show(
                    RunProgress.model_validate(progress.model_dump() | {"stage": f"{text}: {progress.stage}"})
                )
            elif is_new and not as_json:
                error_console.print(escape(text), markup=False)

        yield show


def _row_to_json(row: CandidateOutcome) -> dict[str, Any]:
    keys = "algorithm", *METRICS, "seconds", "peak_mb"
    if row.result is None:
        return dict.fromkeys(keys) | {"algorithm": row.algorithm, "error": row.error}
    metrics = (row.result.metrics[name] for name in METRICS.values())
    return dict(zip(keys, (row.algorithm, *metrics, row.result.seconds, row.result.peak_mb), strict=True))


def _print_results(rows: Sequence[CandidateOutcome], holdout: Holdout, how: str) -> None:
    training, baseline = holdout.training, popularity_metrics(holdout)
    print_line(
        f"Train: {training.n_pairs:,} interactions, {len(training.users):,} users, {len(training.items):,} items. "
        f"Test: {len(holdout.items):,} ({how}), {len(holdout.users):,} users."
    )
    lines = [_table_row(row) for row in sorted(rows, key=lambda row: -row.ndcg)]
    if all(row.algorithm != "popular" for row in rows):
        figures = (f"{baseline[name]:.4f}" for name in METRICS.values())
        lines.append(("popularity, to compare", *figures, None, None, None))
    print_rows(HEADERS, lines, key_column="algorithm")
    for sentence in conclusions(rows, baseline, len(holdout.users)):
        print_line(sentence)


def _table_row(row: CandidateOutcome) -> tuple[Any, ...]:
    if row.result is None:
        return row.algorithm, *([None] * (len(METRICS) + 2)), row.error
    figures = (f"{row.result.metrics[name]:.4f}" for name in METRICS.values())
    peak = row.result.peak_mb
    return row.algorithm, *figures, f"{row.result.seconds:.2f}", None if peak is None else f"{peak:.0f}", None
