"""Verbs about tasks."""

from __future__ import annotations

from typing import Any

from recserver.core.errors import (
    DataChefNotFound,
    InvalidInput,
    ModelNotFound,
    TaskExists,
    TaskNotFound,
)
from recserver.core.validation.values import Bool, Interval, KnownId, NewId, Text, require_new
from recserver.server.service.operation import Operations, Result, Services, mutation, operation
from recserver.training.task import CronExpression, MemoryLimit, TaskSpec, TimeLimit, ZoneName
from recserver.training.task_store import TaskStore

USER_FEATURES_UNREAD = (
    "The data chef of user features is stored but not read yet: the model learns from interactions alone, and "
    "has_user_features stays false. Item features are read, for filters and not for the fit."
)
INTERVAL_UNUSED = "The interval is not used, because schedule goes before it: leave one of the two out."

_COUNTERS = "runs", "retries", "failures", "interrupted", "late", "coalesced", "skipped"


class TaskOperations(Operations):
    """Add, list, change and remove tasks."""

    @mutation
    async def add_model_task(
        self,
        task_name: NewId,
        *,
        model_id: KnownId,
        data_chef_id: KnownId,
        interval: Interval | None = None,
        schedule: CronExpression | None = None,
        timezone: ZoneName = "UTC",
        enabled: Bool = True,
        time_limit: TimeLimit | None = None,
        memory_limit: MemoryLimit | None = None,
        item_features_data_chef_id: Text | None = None,
        user_features_data_chef_id: Text | None = None,
        overwrite: Bool = False,
    ) -> Result:
        """Train a model from a data chef every ``interval`` seconds, the first time at once.

        Args:
            schedule: a cron expression that goes before ``interval``, in the time zone ``timezone``.
            enabled: false adds the task paused.
            time_limit: seconds that one training may take.
            memory_limit: MiB that one training may take, beyond what an idle worker takes.
        """
        parts = self.services
        if interval is None and schedule is None:
            raise InvalidInput.of("interval", "is missing")
        require_new(TaskExists, "Task", task_name, await parts.tasks.names(), overwrite)
        spec = TaskSpec(
            task_name=task_name,
            model_id=model_id,
            interactions_data_chef_id=data_chef_id,
            user_features_data_chef_id=user_features_data_chef_id or None,
            item_features_data_chef_id=item_features_data_chef_id or None,
            interval=interval,
            schedule=schedule,
            timezone=timezone,
            enabled=enabled,
            time_limit=time_limit,
            memory_limit=memory_limit,
        )
        if model_id not in await parts.models.ids():
            raise ModelNotFound(model_id)
        known = await parts.chefs.read()
        for chef in spec.chef_ids():
            if chef not in known:
                raise DataChefNotFound(chef)
        await parts.tasks.write(spec, keep_unknown_keys=False)
        await parts.scheduler.reconcile()
        result: Result = {
            "message": f"Task {task_name} was added{await schedule_summary(spec, parts)}.",
            "task_name": task_name,
            "scheduled": parts.scheduler.loop(task_name) is not None,
            "next_run_at": parts.scheduler.next_run_at(task_name),
        }
        return result | _warnings(spec)

    @mutation
    async def remove_model_task(self, task_name: KnownId) -> Result:
        """Remove a task. A run of it under way is cancelled; the model stays."""
        parts = self.services
        if task_name not in await parts.tasks.names():
            raise TaskNotFound(task_name)
        await parts.tasks.delete(task_name)
        await parts.scheduler.reconcile()
        await parts.runner.discard_task(task_name)  # a stopped scheduler did not
        return {"message": f"Task {task_name} was removed.", "task_name": task_name}

    @operation
    async def list_tasks(self) -> Result:
        """All tasks by name: their definition, and what became of their last run."""
        parts = self.services
        described: dict[str, Result] = {}
        extra: dict[str, Result] = {}
        for name, one in (await parts.runner.read_tasks()).items():
            if isinstance(one, TaskSpec):
                described[name], extra[name] = one.model_dump(), _warnings(one)
            else:
                described[name], extra[name] = await parts.tasks.displayable(name), {"last_error": str(one)}
        # Nothing is awaited from here on, so that the states of all tasks are those of one moment.
        return {name: content | self._state(name) | extra[name] for name, content in described.items()}

    @mutation
    async def update_task_interval(self, task_name: KnownId, *, interval: Interval) -> Result:
        """Give a task another interval, which takes the place of a schedule; it counts from the last due time."""
        parts = self.services
        spec = await find_task(task_name, parts.tasks)
        spec = spec.model_copy(update={"interval": interval, "schedule": None})
        await parts.tasks.write(spec, keep_unknown_keys=True)
        await parts.scheduler.reconcile()
        return {
            "message": f"Task {task_name} has a new interval{await schedule_summary(spec, parts)}.",
            "task_name": task_name,
            "interval": interval,
            "next_run_at": parts.scheduler.next_run_at(task_name),
        }

    def _state(self, task_name: str) -> dict[str, Any]:
        record = self.services.task_state.get(task_name)
        running = any(run.status is not None for run in self.services.runner.active_runs(task_name))
        return {
            "running": running
            or (self.read_only and record.last_status == "training"),  # by who writes the folder
            "last_run_at": record.last_run_at,
            "last_status": record.last_status,
            "last_error": record.last_error,
            "next_run_at": self.services.scheduler.next_run_at(task_name),
            "last_run_id": record.run_id,
            "last_success_at": record.last_success_at,
            "failing_since": record.failing_since,
            **{name: getattr(record, name) for name in _COUNTERS},
            "data_report": record.data_report,
        }


def _warnings(spec: TaskSpec) -> Result:
    """What of a task has no effect, as a part of an answer; nothing if all of it has."""
    unread = [USER_FEATURES_UNREAD] if spec.user_features_data_chef_id else []
    unused = [INTERVAL_UNUSED] if spec.schedule is not None and spec.interval is not None else []
    return {"warnings": unread + unused} if unread or unused else {}


async def schedule_summary(spec: TaskSpec, services: Services) -> str:
    """Whether a task runs from now on, and if not, why: the end of a sentence about it."""
    reason = await services.runner.blocking_reason(
        spec
    )  # first, so that the rest is as it is when the caller goes on
    if not spec.enabled:
        return ", but does not run while it is paused: POST /resume_task ends that"
    if not services.scheduler.is_running:
        return ", but does not run while the scheduler is stopped: POST /restart_scheduler starts it"
    if reason:
        return f", but cannot run: {reason.removesuffix('.')}"
    return f" and runs {spec.schedule_text}"


async def find_task(task_name: str, tasks: TaskStore) -> TaskSpec:
    """The task of that name.

    Raises:
        TaskNotFound: if there is none.
        InvalidInput: if its file cannot be used.
    """
    if task_name not in await tasks.names():
        raise TaskNotFound(task_name)
    try:
        spec = await tasks.spec(task_name)
    except FileNotFoundError:
        raise TaskNotFound(task_name) from None
    if not isinstance(spec, TaskSpec):
        raise spec
    return spec
