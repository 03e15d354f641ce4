"""The operations: one typed coroutine for each endpoint, under the endpoint's name, independent of HTTP."""

from __future__ import annotations

from recserver._internal.server.service.chefs import ChefOperations
from recserver._internal.server.service.exports import ExportOperations
from recserver._internal.server.service.models import ModelOperations
from recserver._internal.server.service.recommend import RecommendOperations
from recserver._internal.server.service.runs import RunOperations
from recserver._internal.server.service.scheduler import SchedulerOperations
from recserver._internal.server.service.tasks import TaskOperations
from recserver._internal.server.service.users_items import LookupOperations
from recserver._internal.server.service.versions import VersionOperations


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
    """All operations of recserver.

    An operation takes the id of its subject first and everything else by keyword, under the names of the HTTP
    fields. It returns what its endpoint responds, as a class of :mod:`recserver._internal.results`, and reports
    errors as a :class:`~recserver._internal.core.errors.RecServerError`.
    """
