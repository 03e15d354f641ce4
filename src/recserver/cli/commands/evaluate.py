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
    FAILED,
    WrongOption,
    complain,
    console,
    failing_quietly,
    print_json,
    print_rows,
    printable,
)
from recserver.core.errors import InvalidInput

if TYPE_CHECKING:
    from recserver.algorithms.evaluation.splitting import Holdout
    from recserver.algorithms.interactions import Interactions
    from recserver.training.algorithm_comparison import Columns, Follow, Row

METRICS = {"ndcg_at_10": "ndcg_at_10", "recall_at_20": "recall_at_20", "hr_at_10": "hr_at_10",
           "coverage": "coverage_at_10"}  # fmt: skip
"""How a metric is called here, and in ``model_metrics``."""


HEADS = "algorithm", *METRICS, "seconds", "peak MB", "error"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says, as it says it."""

    data: Path | None
    train: Path | None
    test: Path | None
    algorithms: str | None
    hyperparameters: str | None
    columns: Mapping[str, str | None]
    split: str | None
    seed: int | None


def evaluate(asked: Asked, *, as_json: bool) -> None:
    """Compare algorithms, and show what came of each."""
    with failing_quietly():
        _evaluate(asked, as_json=as_json)


def _evaluate(asked: Asked, *, as_json: bool) -> None:
    _check(asked)
    given = _hyperparameters(asked.hyperparameters)
    names = None if asked.algorithms is None else _names(asked.algorithms)

    from joblib import cpu_count  # so late that wrong options are told at once

    from recserver.training.algorithm_comparison import compare, popularity, verdict

    named = None if names is None else _candidates(names, given)
    holdout = _holdout(asked)
    candidates = named or _candidates(_fitting(holdout.training), given)
    with _following(as_json, len(candidates)) as follow:
        rows = compare(holdout, candidates, int(cpu_count()), follow)
    if as_json:
        print_json([_object(row) for row in rows])
    else:
        baseline = popularity(holdout)
        _show(rows, baseline, holdout)
        for sentence in verdict(rows, baseline, len(holdout.users)):
            console.print(printable(sentence), markup=False)
    if all(row.result is None for row in rows):
        sys.exit(FAILED)


def _check(asked: Asked) -> None:
    """Refuse options that do not go together."""
    pair = asked.train is not None, asked.test is not None
    if any(pair) and (asked.data is not None or not all(pair)):
        raise WrongOption("--train and --test stand together and in place of --data: give both, or --data alone.")
    if asked.data is None and not any(pair):
        raise WrongOption("There is nothing to evaluate on: name a file by --data, or two by --train and --test.")
    if any(pair) and (asked.split is not None or asked.seed is not None):
        raise WrongOption("--train and --test are a split already: leave out --split and --seed.")
    if asked.split == "time" and asked.seed is not None:
        raise WrongOption("--seed is for chance, and --split time leaves nothing to it: leave one of them out.")
    named = [name for name in asked.columns.values() if name is not None]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise WrongOption(f"The column {twice!r} is given twice: each option names a column of its own.")


def _hyperparameters(text: str | None) -> dict[str, Any]:
    example = 'write it like {"als": {"n_components": 32}}'
    try:
        given = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise WrongOption(f"--hyperparameters is no JSON: {example}.") from None
    if not isinstance(given, dict):
        raise WrongOption(f"--hyperparameters is no JSON object: {example}.")
    return given


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(name for name in (part.strip() for part in text.split(",")) if name))
    if not names:
        raise WrongOption("--algorithms names none: write it like nmf,als,ease, or leave it out for all that fit.")
    return names


def _candidates(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    from recserver.training.algorithm_comparison import checked

    try:
        return checked(names, given)
    except InvalidInput as error:
        raise WrongOption(str(error)) from None


def _fitting(interactions: Interactions) -> list[str]:
    from recserver.training.algorithm_comparison import fitting_algorithms

    names, left_out = fitting_algorithms(interactions)
    for sentence in left_out:
        complain(sentence)
    return names


def _holdout(asked: Asked) -> Holdout:
    """What to learn from and what to foretell."""
    from recserver.algorithms.evaluation.given_split import given_holdout
    from recserver.algorithms.evaluation.splitting import hold_out
    from recserver.training.algorithm_comparison import Columns

    timestamp = asked.columns["timestamp"]
    by_time = asked.split == "time" or (asked.split is None and asked.seed is None and timestamp is not None)
    if by_time and timestamp is None:
        timestamp = "timestamp"
    columns = Columns(**{**asked.columns, "timestamp": timestamp})
    if asked.data is not None:
        holdout = hold_out(_read(asked.data, columns), seed=asked.seed or 0, use_times=by_time)
        why = "nobody has two items, or what is held out has no positive rating"
    else:
        training, test = (_read(path, columns) for path in (asked.train, asked.test) if path is not None)
        holdout = given_holdout(training, test)
        why = "nobody in --test is in --train and has something positive there that is new"
    if holdout is None:
        raise InvalidInput(f"There is nothing to foretell: {why}. Check the columns, or give more data.")
    return holdout


def _read(path: Path, columns: Columns) -> Interactions:
    from recserver.server.settings import load_settings
    from recserver.training.algorithm_comparison import NoColumn, read_file

    if not path.is_file():
        raise InvalidInput(f"There is no file {path}: check the path.")
    try:
        return read_file(path, columns, load_settings().source_policy(path.parent))
    except NoColumn as error:
        raise WrongOption(str(error)) from None


@contextmanager
def _following(as_json: bool, how_many: int) -> Iterator[Follow]:
    """Tell on standard error which algorithm is at work: as a bar on a terminal, as lines elsewhere."""
    from recserver.cli.run_progress import Bar, Seen

    on, begun = Console(stderr=True, highlight=False, soft_wrap=True), list[str]()

    def line(name: str, progress: Any) -> None:
        if name not in begun:
            begun.append(name)
            if not as_json:
                on.print(f"{printable(name)} ({len(begun)} of {how_many})", markup=False)

    if not on.is_terminal:
        yield line
        return
    with Bar(on) as bar:

        def redraw(name: str, progress: Any) -> None:
            if name not in begun:
                begun.append(name)
            stage = f"{name} ({len(begun)} of {how_many}): {progress.stage}"
            bar.show(Seen.model_validate(progress.model_dump() | {"stage": stage}))

        yield redraw


def _object(row: Row) -> dict[str, Any]:
    """A row for programs."""
    keys = "algorithm", *METRICS, "seconds", "peak_mb"
    if row.result is None:
        return dict.fromkeys(keys) | {"algorithm": row.algorithm, "error": row.error}
    found = row.result
    values = (found.metrics[name] for name in METRICS.values())
    return dict(zip(keys, (row.algorithm, *values, found.seconds, found.peak_mb), strict=True))


def _show(rows: Sequence[Row], baseline: Mapping[str, float], holdout: Holdout) -> None:
    training, how = holdout.training, "of each user's latest pairs" if holdout.by_time else "of pairs"
    console.print(
        f"{len(training.users)} users, {len(training.items)} items, {training.n_pairs} pairs to learn from; "
        f"{len(holdout.items)} {how} to foretell, of {len(holdout.users)} users.",
        markup=False,
    )
    lines = [_line(row) for row in sorted(rows, key=lambda row: -row.ndcg)]
    if all(row.algorithm != "popular" for row in rows):
        figures = (f"{baseline[name]:.4f}" for name in METRICS.values())
        lines.append(("popularity, to compare", *figures, None, None, None))
    print_rows(HEADS, lines, named_by="algorithm")


def _line(row: Row) -> tuple[Any, ...]:
    if row.result is None:
        return row.algorithm, *([None] * (len(METRICS) + 2)), row.error
    figures = (f"{row.result.metrics[name]:.4f}" for name in METRICS.values())
    peak = row.result.peak_mb
    return row.algorithm, *figures, f"{row.result.seconds:.2f}", None if peak is None else f"{peak:.0f}", None
