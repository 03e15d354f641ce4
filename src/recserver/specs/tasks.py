"""A task file: which model is trained from which data chefs, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from recserver.errors import InvalidInput
from recserver.specs.reports import first_problem
from recserver.specs.values import Interval, KnownId


class TaskSpec(BaseModel):
    """What ``tasks/{task_name}.json`` says. Further keys of the file are kept but mean nothing here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    task_name: str
    model_id: KnownId
    interactions_data_chef_id: KnownId
    user_features_data_chef_id: KnownId | None = None
    item_features_data_chef_id: KnownId | None = None
    interval: Interval

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
                f"tasks/{task_name}.json cannot be scheduled: {first_problem(error)}. Correct the file."
            ) from None

    def chef_ids(self) -> tuple[str, ...]:
        """The ids of all data chefs that this task names."""
        chefs = (
            self.interactions_data_chef_id,
            self.user_features_data_chef_id,
            self.item_features_data_chef_id,
        )
        return tuple(chef for chef in chefs if chef)
