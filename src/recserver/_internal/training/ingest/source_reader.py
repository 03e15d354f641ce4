"""Reading a job's source: its rows as interactions, and a report of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.chefs.lookup import load_chef_class
from recserver._internal.chefs.protocol import Batch, Chef, ConditionalChef, RestartRead
from recserver._internal.chefs.redaction import Redactor
from recserver._internal.chefs.row_rules import RowRules, row_rules
from recserver._internal.chefs.secrets import expand_environment, mask_entry
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import SourceFailed, SourceUnchanged
from recserver._internal.core.validation.messages import first_error
from recserver._internal.training.ingest.interactions_builder import InteractionsBuilder
from recserver._internal.training.ingest.row_counts import RowCounts
from recserver._internal.training.jobs import DataReport, Progress, TrainingJob
from recserver._internal.training.stage_timer import StageTimer

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class CollectedData:
    """The data of a source.

    Attributes:
        interactions: of its valid rows.
        data_report: what was read, and the ``seconds`` of the stages so far.
        source_state: what the next training may use to ask whether anything changed; may be empty.
    """

    interactions: Interactions
    data_report: DataReport
    source_state: dict[str, Any]


def collect(job: TrainingJob, on_progress: OnProgress, stages: StageTimer | None = None) -> CollectedData:
    """Read everything that the job's chef yields.

    Raises:
        SourceFailed: if the source cannot be read or holds nothing usable; with the report of what was read.
        SourceUnchanged: if the source reports it, and the job allows to end the training then.
    """
    stages, redactor = stages or StageTimer(), Redactor(job.data_chef)
    try:
        rules, chef = open_chef(job.data_chef, job.policy)
        builder = InteractionsBuilder(rules)
        state = _prepare_conditional_read(job, chef)
    except SourceFailed as error:
        raise error.with_message(redactor.redact_message(str(error))) from None
    try:
        stages.begin("reading")
        for batch in read_batches(chef, builder.required_columns(), builder.reset):
            builder.add(batch)
            on_progress(Progress(stage="reading", rows_read=builder.counts.rows_read))
        stages.begin("building")
        interactions = builder.build()
    except (SourceFailed, SourceUnchanged) as error:
        found = _data_report(builder.counts, None, stages, redactor).model_dump()
        raise error.with_message(redactor.redact_message(str(error)), found) from None
    if state and isinstance(chef, ConditionalChef) and chef.validators:
        state["validators"] = dict(chef.validators)
    source_state = state if "validators" in state else {}
    return CollectedData(interactions, _data_report(builder.counts, interactions, stages, redactor), source_state)


def read_batches(chef: Chef, columns: set[str] | None, restart: Callable[[], None]) -> Generator[Batch]:
    """The batches of a chef. If it asks to be read again from the start, once at most, ``restart`` is called."""
    try:
        yield from chef.batches(columns)
    except RestartRead:
        restart()
        yield from chef.batches(columns)


def open_chef(entry: Mapping[str, Any], policy: SourcePolicy) -> tuple[RowRules, Chef]:
    """The row rules of an entry, and the chef that reads its rows. The chef itself replaces ``${NAME}``.

    Raises:
        RecServerError: if the entry cannot be used.
    """
    try:
        rules = row_rules(entry)
    except ValidationError as error:
        raise SourceFailed(f"The data chef cannot be used: {first_error(error)}.") from None
    return rules, load_chef_class(str(entry.get("type") or "").lower())(entry, policy)


def _prepare_conditional_read(job: TrainingJob, chef: Chef) -> dict[str, Any]:
    """Give a conditional chef the validators of the last training; return the state to store, without validators.

    Not where there are item features: these may have changed when the interactions have not.
    """
    if not isinstance(chef, ConditionalChef) or job.item_features is not None:
        return {}
    entry = mask_entry(expand_environment(job.data_chef))
    parts = json.dumps([entry, job.algorithm, job.hyperparameters], sort_keys=True, default=str)
    definition = hashlib.sha256(parts.encode()).hexdigest()
    known = job.source_state
    if job.previous_digest is not None and known.get("definition") == definition:
        chef.validators = dict(known.get("validators", {}))
    return {"definition": definition}


def _data_report(
    counts: RowCounts, interactions: Interactions | None, stages: StageTimer, redactor: Redactor
) -> DataReport:
    return DataReport(
        rows_read=counts.rows_read,
        rows_kept=counts.rows_kept,
        **counts.report(redactor.redact_name, redactor.redact_message),
        hints=[redactor.redact_message(hint) for hint in counts.hints],
        n_pairs=interactions.n_pairs if interactions else 0,
        n_users=len(interactions.users) if interactions else 0,
        n_items=len(interactions.items) if interactions else 0,
        density=interactions.density if interactions else 0.0,
        n_bytes=counts.n_bytes,
        seconds=stages.end(),
    )
