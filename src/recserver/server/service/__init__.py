"""The verbs: one typed, HTTP-free coroutine for every endpoint, under the endpoint's name."""

from __future__ import annotations

from recserver.server.service.chefs import ChefOperations
from recserver.server.service.exports import ExportOperations
from recserver.server.service.models import ModelOperations
from recserver.server.service.recommend import RecommendOperations
from recserver.server.service.runs import RunOperations
from recserver.server.service.scheduler import SchedulerOperations
from recserver.server.service.tasks import TaskOperations
from recserver.server.service.users_items import LookupOperations
from recserver.server.service.versions import VersionOperations


class Service(
    ModelOperations,
    ChefOperations,
    TaskOperations,
    RunOperations,
    VersionOperations,
    SchedulerOperations,
    RecommendOperations,
    LookupOperations,
    ExportOperations,
):
    """Everything recserver can be asked to do.

    A verb takes the id it is about first and the rest by keyword, under the names of the HTTP fields; it answers
    with what the endpoint answers, as plain dicts. What it refuses is raised as a
    :class:`~recserver.core.errors.RecServerError`.
    """
