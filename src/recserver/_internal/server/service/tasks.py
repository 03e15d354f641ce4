"""Operations on tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recserver._internal.core.errors import (
    DataChefNotFound,
    InvalidInput,
    ModelNotFound,
    TaskExists,
    TaskNotFound,
)
from recserver._internal.core.validation.values import Bool, Interval, KnownId, NewId, OptionalId, require_new
from recserver._internal.results.tasks import AddedTask, ChangedInterval, EditedTask, RemovedTask, TaskInfo
from recserver._internal.scheduling.task_runner import TaskRunner
from recserver._internal.server.service.operation import operation
from recserver._internal.server.service.services import Operations, Services
from recserver._internal.training.task import CronExpression, MemoryLimit, TaskSpec, TimeLimit, ZoneName
from recserver._internal.training.task_store import TaskStore

USER_FEATURES_UNREAD = (
    "The data chef of user features is stored but not read yet: the model is trained on interactions only, and "
    "has_user_features stays false. Item features are read for filters, not for training."
)
INTERVAL_UNUSED = "The interval is not used, because schedule takes precedence: remove one of the two."

_COUNTERS = "runs", "retries", "failures", "interrupted", "late", "coalesced", "skipped"


class TaskOperations(Operations):
    """Add, list, change and remove tasks."""

    tag = "Tasks"

    @operation(
        "POST",
        scope="train",
        changes="definitions",
        aliases={"interactions_data_chef_id": "data_chef_id"},
        example={"task_name": "train_coffee", "model_id": "coffee", "data_chef_id": "orders", "interval": 3600},
    )
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
        item_features_data_chef_id: OptionalId | None = None,
        user_features_data_chef_id: OptionalId | None = None,
        overwrite: Bool = False,
    ) -> AddedTask:
        """Train a model from a data chef regularly, starting now if it has no version that can serve.

        Args:
            task_name: its name.
            model_id: the model to train.
            data_chef_id: the data chef of the interactions.
            interval: seconds from one due time to the next. It or ``schedule`` is required.
            schedule: cron expression in the time zone ``timezone``; takes precedence over ``interval``.
            timezone: the time zone of ``schedule``, such as ``Europe/Berlin``.
            enabled: false adds the task paused.
            time_limit: seconds that one training may take.
            memory_limit: MiB that one training may use, beyond what an idle worker uses.
            item_features_data_chef_id: the data chef of the attributes of items, which filters use.
            user_features_data_chef_id: stored, and not read yet.
            overwrite: replace an existing task.

        Raises:
            TaskExists: if there is such a task, unless ``overwrite``.
            ModelNotFound: if there is no such model.
            DataChefNotFound: if there is no such data chef.
        """
        services = self._services
        if interval is None and schedule is None:
            raise InvalidInput.of("interval", "is missing")
        require_new(TaskExists, "Task", task_name, await services.tasks.names(), overwrite)
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
        await self._require_sources(model_id, spec.chef_ids())
        await services.tasks.write(spec, keep_unknown_keys=False)
        await services.scheduler.reconcile()
        return AddedTask(
            message=f"Task {task_name} was added{await schedule_summary(spec, services)}.",
            task_name=task_name,
            scheduled=services.scheduler.loop(task_name) is not None,
            next_run_at=services.scheduler.next_run_at(task_name),
            warnings=_warnings(spec),
        )

    @operation("POST DELETE", scope="train", changes="definitions", example={"task_name": "train_coffee"})
    async def remove_model_task(self, task_name: KnownId) -> RemovedTask:
        """Remove a task. Its active run is cancelled; the model stays.

        Args:
            task_name: the task.

        Raises:
            TaskNotFound: if there is no such task.
        """
        services = self._services
        if task_name not in await services.tasks.names():
            raise TaskNotFound(task_name)
        await services.tasks.delete(task_name)
        await services.scheduler.reconcile()
        await services.runner.discard_task(task_name)  # a stopped scheduler does not do it
        return RemovedTask(message=f"Task {task_name} was removed.", task_name=task_name)

    @operation("GET", scope="read")
    async def list_tasks(self) -> dict[str, TaskInfo]:
        """All tasks by name: their definitions, and the state of their last run."""
        services = self._services
        definitions: dict[str, dict[str, Any]] = {}
        extra: dict[str, dict[str, Any]] = {}
        for name, spec in (await services.runner.read_tasks()).items():
            if isinstance(spec, TaskSpec):
                warnings = _warnings(spec)
                definitions[name], extra[name] = spec.model_dump(), {"warnings": warnings} if warnings else {}
            else:
                definitions[name], extra[name] = await services.tasks.displayable(name), {"last_error": str(spec)}
        # Nothing is awaited from here on, so that the states of all tasks are of one moment.
        return {
            name: TaskInfo.from_dict(content | self._state(name) | extra[name])
            for name, content in definitions.items()
        }

    @operation(
        "POST PUT",
        scope="train",
        changes="definitions",
        example={"task_name": "train_coffee", "interval": 7200},
    )
    async def update_task_interval(self, task_name: KnownId, *, interval: Interval) -> ChangedInterval:
        """Give a task another interval, which replaces a schedule and is counted from the last due time.

        Args:
            task_name: the task.
            interval: seconds from one due time to the next.

        Raises:
            TaskNotFound: if there is no such task.
            InvalidInput: if its file cannot be used.
        """
        services = self._services
        spec = await find_task(task_name, services.tasks)
        spec = spec.model_copy(update={"interval": interval, "schedule": None})
        await services.tasks.write(spec, keep_unknown_keys=True)
        await services.scheduler.reconcile()
        return ChangedInterval(
            message=f"Task {task_name} has a new interval{await schedule_summary(spec, services)}.",
            task_name=task_name,
            interval=interval,
            next_run_at=services.scheduler.next_run_at(task_name),
        )

    @operation(
        "POST PUT",
        scope="train",
        changes="definitions",
        aliases={"interactions_data_chef_id": "data_chef_id"},
        example={"task_name": "train_coffee", "schedule": "30 2 * * *", "timezone": "Europe/Berlin"},
    )
    async def edit_task(
        self,
        task_name: KnownId,
        *,
        model_id: KnownId | None = None,
        data_chef_id: KnownId | None = None,
        interval: Interval | None = None,
        schedule: CronExpression | None = None,
        timezone: ZoneName | None = None,
        enabled: Bool | None = None,
        time_limit: TimeLimit | None = None,
        memory_limit: MemoryLimit | None = None,
        item_features_data_chef_id: OptionalId | None = None,
        user_features_data_chef_id: OptionalId | None = None,
    ) -> EditedTask:
        """Change what is given of a task, and keep everything else.

        Args:
            task_name: the task.
            model_id: the model to train.
            data_chef_id: the data chef of the interactions.
            interval: seconds from one due time to the next, which replace a schedule.
            schedule: cron expression, which replaces an interval.
            timezone: the time zone of ``schedule``.
            enabled: whether the scheduler runs it.
            time_limit: seconds that one training may take.
            memory_limit: MiB that one training may use, beyond what an idle worker uses.
            item_features_data_chef_id: the data chef of the attributes of items; empty for none.
            user_features_data_chef_id: the data chef of user features; empty for none.

        Raises:
            TaskNotFound: if there is no such task.
            ModelNotFound: if there is no such model.
            DataChefNotFound: if there is no such data chef.
            InvalidInput: if nothing is given, or the task's file cannot be used.
        """
        services = self._services
        changes: dict[str, Any] = {
            "model_id": model_id, "interactions_data_chef_id": data_chef_id, "timezone": timezone,
            "enabled": enabled, "time_limit": time_limit, "memory_limit": memory_limit,
        }  # fmt: skip
        changes = {name: value for name, value in changes.items() if value is not None}
        if interval is not None or schedule is not None:
            changes |= {"interval": interval, "schedule": schedule}
        for name, chef in (
            ("item_features_data_chef_id", item_features_data_chef_id),
            ("user_features_data_chef_id", user_features_data_chef_id),
        ):
            changes |= {} if chef is None else {name: chef or None}
        if not changes:
            raise InvalidInput("Nothing is to be changed: give at least one field besides task_name.")
        old = await find_task(task_name, services.tasks)
        spec = old.model_copy(update=changes)
        chefs = [chef for name, chef in changes.items() if name.endswith("data_chef_id") and chef]
        await self._require_sources(model_id, chefs)
        await services.tasks.write(spec, keep_unknown_keys=True)
        await services.scheduler.reconcile()
        if spec.training_key != old.training_key and services.scheduler.loop(task_name) is None:
            await services.runner.discard_task(task_name)  # a running scheduler does it
        return EditedTask(
            message=f"Task {task_name} was changed{await schedule_summary(spec, services)}.",
            task_name=task_name,
            next_run_at=services.scheduler.next_run_at(task_name),
            warnings=_warnings(spec),
        )

    async def _require_sources(self, model_id: str | None, chefs: Iterable[str]) -> None:
        """Check that a model, if one is given, and data chefs exist."""
        if model_id is not None and model_id not in await self._services.models.ids():
            raise ModelNotFound(model_id)
        known_chefs = await self._services.chefs.read()
        for chef in chefs:
            if chef not in known_chefs:
                raise DataChefNotFound(chef)

    def _state(self, task_name: str) -> dict[str, Any]:
        state = self._services.task_state.get(task_name)
        running = any(run.status is not None for run in self._services.runner.active_runs(task_name))
        return {
            "running": running or (self.read_only and state.last_status == "training"),  # by the writer
            "last_run_at": state.last_run_at,
            "last_status": state.last_status,
            "last_error": state.last_error,
            "next_run_at": self._services.scheduler.next_run_at(task_name),
            "last_run_id": state.run_id,
            "last_success_at": state.last_success_at,
            "failing_since": state.failing_since,
            **{name: getattr(state, name) for name in _COUNTERS},
            "data_report": state.data_report,
            "last_warnings": state.last_warnings,
        }


def _warnings(spec: TaskSpec) -> list[str]:
    """A sentence for each field of a task that has no effect."""
    unread = [USER_FEATURES_UNREAD] if spec.user_features_data_chef_id else []
    unused = [INTERVAL_UNUSED] if spec.schedule is not None and spec.interval is not None else []
    return unread + unused


async def readable_tasks(runner: TaskRunner) -> dict[str, TaskSpec]:
    """All tasks by name, except those whose files cannot be used."""
    return {name: spec for name, spec in (await runner.read_tasks()).items() if isinstance(spec, TaskSpec)}


async def schedule_summary(spec: TaskSpec, services: Services) -> str:
    """Whether a task is scheduled, and if not, why: the end of a sentence about the task."""
    reason = await services.runner.blocking_reason(spec)  # first: nothing is awaited afterwards
    if not spec.enabled:
        return ", but does not run while it is paused: POST /resume_task resumes it"
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
