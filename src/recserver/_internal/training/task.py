"""Tasks: which model is trained from which data chefs, and when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from recserver._internal.core.errors import InvalidInput, quoted
from recserver._internal.core.validation.messages import first_error
from recserver._internal.core.validation.values import (
    Bool,
    Interval,
    KnownId,
    interval_seconds,
    whole_number_between,
)

MAX_CRON_LENGTH = 200
MAX_MEMORY = 2**24
"""MiB."""


def _cron(expression: str) -> str:
    fields = expression.split()
    if len(fields) != 5:
        raise ValueError("must be a cron expression of five fields, such as 30 2 * * *")
    try:
        CronSim(" ".join(fields), datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(
            f"is not a valid cron expression ({str(error).lower()}): write it like 30 2 * * *"
        ) from None
    return " ".join(fields)


def time_zone(name: str) -> tzinfo:
    """A time zone. A small file is read when it is used for the first time.

    Raises:
        OSError, ValueError, KeyError: if there is no zone of that name.
    """
    return UTC if name == "UTC" else ZoneInfo(name)


def _zone(name: str) -> str:
    try:
        time_zone(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{quoted(name)} is not a time zone: name one like Europe/Berlin or UTC") from None
    return name


CronExpression = Annotated[str, StringConstraints(strict=True, max_length=MAX_CRON_LENGTH), AfterValidator(_cron)]
ZoneName = Annotated[str, StringConstraints(strict=True, max_length=100), AfterValidator(_zone)]
TimeLimit = Annotated[
    int | float,
    BeforeValidator(interval_seconds, json_schema_input_type=Annotated[float, Field(ge=1, le=31_622_400)]),
]
MemoryLimit = Annotated[
    int,
    BeforeValidator(
        whole_number_between(1, MAX_MEMORY, "a whole number of MiB"),
        json_schema_input_type=Annotated[int, Field(ge=1, le=MAX_MEMORY)],
    ),
]


class TaskSpec(BaseModel):
    """The content of ``tasks/{task_name}.json``. Unknown keys of the file are preserved and ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    task_name: str
    model_id: KnownId
    interactions_data_chef_id: KnownId
    user_features_data_chef_id: KnownId | None = None
    item_features_data_chef_id: KnownId | None = None
    interval: Interval | None = None
    """Seconds from one due time to the next. Optional if there is a ``schedule``, which takes precedence."""
    schedule: CronExpression | None = None
    """A cron expression of five fields."""
    timezone: ZoneName = "UTC"
    """The time zone of ``schedule``."""
    enabled: Bool = True
    """Whether the scheduler runs it."""
    time_limit: TimeLimit | None = None
    """Seconds that one training may take."""
    memory_limit: MemoryLimit | None = None
    """MiB that one training may take, in addition to what an idle worker uses."""

    @model_validator(mode="after")
    def _require_schedule(self) -> Self:
        if self.interval is None and self.schedule is None:
            raise ValueError("interval: is missing")
        return self

    @classmethod
    def from_file(cls, task_name: str, content: Mapping[str, Any]) -> Self:
        """The task that a file's content describes; the file's name is the task's name.

        Raises:
            InvalidInput: if ``interval``, ``model_id`` or ``interactions_data_chef_id`` is missing or wrong.
        """
        known = {name: content[name] for name in cls.model_fields if content.get(name) not in (None, "")}
        try:
            return cls.model_validate(known | {"task_name": task_name})
        except ValidationError as error:
            raise InvalidInput(
                f"tasks/{task_name}.json cannot be scheduled: {first_error(error)}. Correct the file."
            ) from None

    def to_file(self) -> dict[str, Any]:
        """The content to write: six keys always, others if they differ from their defaults."""
        content = self.model_dump()
        usual = {name: field.default for name, field in type(self).model_fields.items()}
        return {name: value for name, value in content.items() if name in _ALWAYS_WRITTEN or value != usual[name]}

    @property
    def training_key(self) -> tuple[str, tuple[str, ...]]:
        """The model and data chefs: a task that changes in these counts as a new one."""
        return self.model_id, self.chef_ids()

    @property
    def schedule_text(self) -> str:
        """The schedule as text."""
        return f"every {self.interval} s" if self.schedule is None else f"at {self.schedule} ({self.timezone})"

    def chef_ids(self) -> tuple[str, ...]:
        """The ids of all data chefs that this task names."""
        chefs = (
            self.interactions_data_chef_id,
            self.user_features_data_chef_id,
            self.item_features_data_chef_id,
        )
        return tuple(chef for chef in chefs if chef)


_ALWAYS_WRITTEN = frozenset(
    {
        "task_name", "model_id", "interactions_data_chef_id", "user_features_data_chef_id",
        "item_features_data_chef_id", "interval",
    }
)  # fmt: skip
