"""The verbs: one typed, HTTP-free coroutine for every endpoint, under the endpoint's name."""

from __future__ import annotations

from recserver.server.service.chefs import ChefVerbs
from recserver.server.service.exports import ExportVerbs
from recserver.server.service.models import ModelVerbs
from recserver.server.service.recommend import RecommendVerbs
from recserver.server.service.runs import RunVerbs
from recserver.server.service.scheduler import SchedulerVerbs
from recserver.server.service.tasks import TaskVerbs
from recserver.server.service.users_items import LookupVerbs
from recserver.server.service.versions import VersionVerbs


class Service(
    ModelVerbs,
    ChefVerbs,
    TaskVerbs,
    RunVerbs,
    VersionVerbs,
    SchedulerVerbs,
    RecommendVerbs,
    LookupVerbs,
    ExportVerbs,
):
    """Everything recserver can be asked to do.

    A verb takes the id it is about first and the rest by keyword, under the names of the HTTP fields; it answers
    with what the endpoint answers, as plain dicts. What it refuses is raised as a
    :class:`~recserver.core.errors.RecServerError`.
    """
