"""A comparison of algorithms on one hold-out, each in a fresh process."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recserver._internal.algorithms.evaluation.splitting import Holdout
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.lookup import ALGORITHM_PATHS, load_algorithm
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import InvalidInput, TrainingFailed, quoted
from recserver._internal.registry.quality_gate import MIN_EVALUATED_USERS
from recserver._internal.training.executors.process_pool import ProcessExecutor
from recserver._internal.training.ingest.source_reader import collect
from recserver._internal.training.jobs import CandidateJob, CandidateResult, PreviewJob, Progress, TrainingJob
from recserver._internal.training.preview.source_preview import preview

NEAR_BEST_SHARE, MAX_TIME_SHARE = 0.99, 1 / 3
"""An algorithm is named if it reaches this share of the best ndcg_at_10 in this share of the seconds."""

OnCandidateProgress = Callable[[str, Progress], None]
"""Called with the name of the algorithm and its progress."""


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """The names of the needed columns in a file. None stands for a data chef's default."""

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    timestamp: str | None = None

    def chef_entry(self, name: str) -> dict[str, Any]:
        """The data chef of the file called ``name``."""
        named = {"user_id": self.user, "item_id": self.item, "rating": self.rating}
        renames = {old: new for new, old in named.items() if old is not None and old != new}
        times = {} if self.timestamp is None else {"timestamp_column": self.timestamp}
        return {"type": "csv", "path": name, "rename_columns": renames, **times}

    def required(self) -> dict[str, str]:
        """The required columns, and the option that names each."""
        required = {"user": self.user or "user_id", "item": self.item or "item_id"}
        required |= {"rating": self.rating or "", "timestamp": self.timestamp or ""}
        return {name: f"--{option}" for option, name in required.items() if name}


class MissingColumn(InvalidInput):
    """A file lacks a required column."""


@dataclass(frozen=True, slots=True)
class CandidateOutcome:
    """The outcome of one algorithm: a result or an error."""

    algorithm: str
    result: CandidateResult | None = None
    error: str | None = None

    @property
    def ndcg(self) -> float:
        """Its ndcg_at_10; -1 if it failed."""
        return -1.0 if self.result is None else self.result.metrics["ndcg_at_10"]


def read_file(path: Path, columns: ColumnNames, policy: SourcePolicy) -> Interactions:
    """The interactions of a file, read and validated as by a data chef.

    Args:
        policy: only its limits count; the file may be anywhere.

    Raises:
        MissingColumn: if the file lacks one of the columns.
        RecServerError: if it cannot be read, or holds nothing usable.
    """
    file = path.resolve()
    policy = policy.model_copy(update={"data_dir": file.parent})
    entry = columns.chef_entry(file.name)
    found = preview(PreviewJob(data_chef=entry, policy=policy, rows=1)).columns
    for name, option in columns.required().items():
        if found and name not in found:
            present = ", ".join(map(quoted, found))
            raise MissingColumn(
                f"{path.name} has no column {quoted(name)} but {present}: name the right one by {option}."
            )
    job = TrainingJob(
        model_id="", model_version=1, algorithm="", hyperparameters={}, data_chef_id="",
        data_chef=entry, policy=policy, out=Path(),
    )  # fmt: skip
    return collect(job, lambda _: None).interactions


def applicable_algorithms(interactions: Interactions) -> tuple[list[str], list[str]]:
    """The built-in algorithms that can learn from such data, and a sentence for each that cannot."""
    from recserver._internal.algorithms.ease import MAX_ITEMS

    names = [name for name in ALGORITHM_PATHS if name != "auto"]  # which is one of the others
    if len(interactions.items) <= MAX_ITEMS:
        return names, []
    names.remove("ease")
    return names, [f"ease is left out: it takes at most {MAX_ITEMS} items, not {len(interactions.items)}."]


def validate_candidates(names: Collection[str], overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Algorithm → all hyperparameters of its fit: those given, else its defaults.

    Raises:
        InvalidInput: if there is no such algorithm, or it does not take them.
    """
    if unknown := [name for name in overrides if name not in names]:
        raise InvalidInput(
            f"{quoted(unknown[0])} is not compared: give hyperparameters of {', '.join(names)} only."
        )
    found = {}
    for name in names:
        algorithm, given = load_algorithm(name), overrides.get(name, {})
        if not isinstance(given, Mapping):
            raise InvalidInput(
                f'The hyperparameters of {name} are not an object: write it like {{"{name}": {{}}}}.'
            )
        try:
            found[name] = {**algorithm.default_params, **algorithm.check(given)[0]}
        except InvalidInput as error:
            raise InvalidInput(f"{name}: {error}") from None
    return found


def compare(
    holdout: Holdout, candidates: Mapping[str, Mapping[str, Any]], threads: int, on_progress: OnCandidateProgress
) -> list[CandidateOutcome]:
    """Fit and evaluate several algorithms. One that fails does not affect the others.

    Args:
        candidates: name to hyperparameters.
        threads: number of threads that each may use.
    """
    from recserver._internal.training.worker.evaluate_candidate import save_holdout

    with TemporaryDirectory(prefix="recserver-") as folder:
        path = Path(folder) / "holdout.npz"
        save_holdout(holdout, path)
        jobs = [
            CandidateJob(holdout=path, algorithm=name, hyperparameters=dict(given), threads=threads)
            for name, given in candidates.items()
        ]
        return asyncio.run(_evaluate_all(jobs, on_progress))


async def _evaluate_all(jobs: Sequence[CandidateJob], on_progress: OnCandidateProgress) -> list[CandidateOutcome]:
    return [await _evaluate(job, on_progress) for job in jobs]


async def _evaluate(job: CandidateJob, on_progress: OnCandidateProgress) -> CandidateOutcome:
    """Evaluate one algorithm in a fresh process, so that its peak memory is its own."""
    name = job.algorithm
    on_progress(name, Progress(stage="starting"))
    pool = ProcessExecutor(1, job.threads, priority="low", stderr=DEVNULL)
    try:
        return CandidateOutcome(name, await pool.evaluate_candidate(job, partial(on_progress, name)))
    except TrainingFailed as error:
        if not error.is_internal:
            return CandidateOutcome(name, error=str(error))
        reason = error.__notes__[0].strip().splitlines()[-1]
        return CandidateOutcome(
            name, error=f"{name} failed with an internal error ({reason}): report it to its authors."
        )
    finally:
        await pool.close()


def conclusions(rows: Sequence[CandidateOutcome], baseline: Mapping[str, float], n_users: int) -> list[str]:
    """The best algorithm, alternatives that are much faster, and doubts, one sentence each."""
    best = max(rows, key=lambda row: row.ndcg, default=None)
    if best is None or best.result is None:
        return []
    ndcg, seconds = best.ndcg, best.result.seconds
    sentences = [f"Best: {best.algorithm} (NDCG@10 {ndcg:.4f})."]
    alternatives = [
        (row.result.seconds, row)
        for row in rows
        if row.result is not None
        and row.ndcg >= NEAR_BEST_SHARE * ndcg
        and row.result.seconds <= MAX_TIME_SHARE * seconds
    ]
    for row_seconds, row in sorted(alternatives, key=lambda one: one[0]):
        sentences.append(
            f"{row.algorithm} is within 1 % of that ({row.ndcg:.4f}) and took {row_seconds:.1f} s "
            f"instead of {seconds:.1f} s."
        )
    if best.algorithm != "popular" and ndcg <= baseline["ndcg_at_10"]:
        sentences.append(
            f"That is not better than popular items ({baseline['ndcg_at_10']:.4f}): check that the "
            "columns are correct."
        )
    if n_users < MIN_EVALUATED_USERS:
        sentences.append(
            f"Only {n_users} users were evaluated: with fewer than {MIN_EVALUATED_USERS} the order may be chance."
        )
    return sentences
