"""A worker process: takes jobs on standard input and answers on standard output.

See :mod:`recserver._internal.training.executors.messages`. It ends when its input does, which happens when the
server closes it or is killed; on Linux the kernel ends it together with the server in any case.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from pydantic import BaseModel

from recserver._internal.core.child_process import kill_with_parent
from recserver._internal.core.errors import NoNewModel, RecServerError, TrainingFailed
from recserver._internal.training.executors.messages import decode, encode
from recserver._internal.training.export.export_job import ExportJob
from recserver._internal.training.jobs import CandidateJob, PreviewJob, Progress, TrainingJob

NICENESS = 5
"""The niceness of workers of low priority."""

MAX_TEXT_CHARS = 100_000
"""Characters of an error that are sent: the server limits the length of lines."""


def main() -> None:
    """Work until standard input ends."""
    kill_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the server only
    lower_priority(sys.argv[2])
    requests, answers = _own_pipes()
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_jobs, args=(requests, jobs), daemon=True).start()
    while True:
        _handle_line(jobs.get(), answers)


def lower_priority(priority: str) -> None:
    """Use only processor time that no other process wants (``idle``), or a smaller share than others."""
    if priority == "idle" and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "nice"):
        os.nice(NICENESS)


def _own_pipes() -> tuple[TextIO, TextIO]:
    """The pipes to the server, moved to descriptors that only this module knows.

    A library that prints, even from C code, must not garble the answers, nor may one that reads take the jobs:
    standard output becomes standard error and standard input is empty. Child processes inherit neither pipe.
    """
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing if sys.stderr is None else 2, 1)
    os.close(nothing)
    return requests, answers


def _read_jobs(lines: TextIO, jobs: queue.SimpleQueue[str]) -> None:
    for line in lines:
        jobs.put(line)
    os._exit(0)  # at once, even in the middle of a fit


def _run_job(kind: str, job: dict[str, Any], on_progress: Callable[[BaseModel], None]) -> BaseModel:
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks(())  # errors say how often a source was tried; its log lines have another format
    if kind == "preview":
        from recserver._internal.training.preview.source_preview import preview  # late, so that starting is quick

        on_progress(Progress(stage="reading"))  # from now on the death of the worker counts as caused by this job
        return preview(PreviewJob.model_validate(job))
    if kind == "export":
        from recserver._internal.training.export.export_worker import export

        return export(ExportJob.model_validate(job), on_progress)
    if kind == "candidate":
        from recserver._internal.training.worker.evaluate_candidate import evaluate_candidate

        return evaluate_candidate(CandidateJob.model_validate(job), on_progress)
    from recserver._internal.training.worker.memory_limit import limit_memory
    from recserver._internal.training.worker.train import train

    training = TrainingJob.model_validate(job)
    with limit_memory(training.memory_limit):
        return train(training, on_progress)


def _handle_line(line: str, answers: TextIO) -> None:
    def answer(kind: str, content: Any) -> None:
        answers.write(encode(kind, content))
        answers.flush()

    def report(progress: BaseModel) -> None:
        answer("progress", progress.model_dump())

    kind, job = decode(line)
    try:
        result = _run_job(kind, job, report)
    except RecServerError as error:
        content: dict[str, Any] = {"code": error.code, "error": str(error)[:MAX_TEXT_CHARS]}
        if isinstance(error, NoNewModel):
            content["data_report"] = error.data_report
        if isinstance(error, TrainingFailed):
            content |= {"transient": error.transient, "retry_after": error.retry_after}
        answer("failed", content)
    except MemoryError:
        limit = job.get("memory_limit")
        hint = f" beyond its limit of {limit} MiB: raise it, or read less" if limit else ""
        answer("failed", {"code": "training_failed", "error": f"The {kind} ran out of memory{hint}."})
    except Exception as error:  # any error of a library ends this job, not the worker
        trace = traceback.format_exc()[-MAX_TEXT_CHARS:]
        answer("crashed", {"error": type(error).__name__, "traceback": trace})
    else:
        answer("result", result.model_dump())


if __name__ == "__main__":
    main()
