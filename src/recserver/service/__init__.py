"""The verbs: one typed, HTTP-free coroutine for every endpoint, under the endpoint's name."""

from __future__ import annotations

from recserver.service.chefs import ChefVerbs
from recserver.service.exports import ExportVerbs
from recserver.service.lookup import LookupVerbs
from recserver.service.models import ModelVerbs
from recserver.service.recommend import RecommendVerbs
from recserver.service.runs import RunVerbs
from recserver.service.scheduler import SchedulerVerbs
from recserver.service.tasks import TaskVerbs
from recserver.service.versions import VersionVerbs


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
    :class:`~recserver.errors.RecServerError`.
    """
