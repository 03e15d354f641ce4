"""The HTTP routes: which request calls which operation, and the aliases of its fields."""

from __future__ import annotations

from dataclasses import dataclass

PREFIXES = ("", "/api/v1")
"""Every route is served under each of them."""

ID_FIELDS = frozenset(
    {
        "model_id", "data_chef_id", "task_name", "user_id", "item_id",
        "item_features_data_chef_id", "user_features_data_chef_id",
    }
)  # fmt: skip
"""Fields that the query of any request may hold; other fields of POST and PUT are read from the body only."""

LIST_FIELDS = frozenset(
    {"exclude", "candidates", "filter", "boost", "max_per", "interactions", "item_ids", "user_ids"}
)
"""Fields that are lists: a query repeats them, once for each value."""

CACHEABLE = frozenset({"recommend", "similar_items", "similar_users", "popular_items"})
"""Operations whose response depends on one version of a model and on nothing else."""

LOCAL_OPERATIONS = CACHEABLE | {"recommend_batch", "session_recommend", "rank", "users", "items"}
"""Operations that any process can perform that has loaded the model; all others need the writer."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path. ``operation`` is the name of a coroutine of the service."""

    method: str
    path: str
    operation: str

    @property
    def is_cacheable(self) -> bool:
        """Whether the same URL gets the same response as long as the serving version stays the same."""
        return self.method == "GET" and self.operation in CACHEABLE

    @property
    def is_local(self) -> bool:
        """Whether the response depends on a model alone, so that every process can give it."""
        return self.operation in LOCAL_OPERATIONS

    @property
    def streams_progress(self) -> bool:
        """Whether the response reports progress line by line, so that each line is sent at once."""
        return self.operation == "export_recommendations"

    @property
    def is_keyed_by_id(self) -> bool:
        """Whether the keys of the response are ids, so that no ``warnings`` may be added to it."""
        return self.operation in ("list_models", "list_data_chefs", "list_tasks")


_ENDPOINTS: tuple[tuple[str, ...], ...] = (
    ("health", "GET"),
    ("get_available_algorithms", "GET"),
    ("create_model", "POST"),
    ("list_models", "GET"),
    ("get_model_info", "GET", "/{model_id}"),
    ("delete_model", "DELETE", "/{model_id}"),
    ("list_model_versions", "GET", "/{model_id}"),
    ("rollback_model", "POST"),
    ("promote_model", "POST"),
    ("pin_model_version", "POST"),
    ("update_quality_gate", "POST"),
    ("create_data_chef_from_csv", "POST"),
    ("create_data_chef_from_sql", "POST"),
    ("create_data_chef_from_api", "POST"),
    ("preview_data_chef", "GET", "/{data_chef_id}"),
    ("validate_data_chef", "POST"),
    ("list_data_chefs", "GET"),
    ("delete_data_chef", "DELETE", "/{data_chef_id}"),
    ("add_model_task", "POST"),
    ("remove_model_task", "POST DELETE"),
    ("list_tasks", "GET"),
    ("update_task_interval", "POST PUT"),
    ("run_task", "POST"),
    ("stop_training", "POST"),
    ("pause_task", "POST"),
    ("resume_task", "POST"),
    ("get_training_status", "GET", "/{model_id}"),
    ("list_runs", "GET"),
    ("get_run", "GET", "/{run_id}"),
    ("restart_scheduler", "POST"),
    ("stop_scheduler", "POST"),
    ("get_scheduler_status", "GET"),
    ("recommend", "GET POST", "/{user_id}/{model_id}", "/{user_id}/{model_id}/{n}"),
    ("recommend_batch", "POST"),
    ("export_recommendations", "POST"),
    ("session_recommend", "POST"),
    ("rank", "POST"),
    ("similar_items", "GET POST"),
    ("similar_users", "GET"),
    ("popular_items", "GET POST"),
    ("users", "GET"),
    ("items", "GET"),
)
"""Operation, which is also the path; methods; and, for the first method, parameters that the path may end with."""

ROUTES = tuple(
    Route(method, f"/{name}{path}", name)
    for name, methods, *paths in _ENDPOINTS
    for path in ("", *paths)
    for method in (methods.split()[:1] if path else methods.split())
)

_CHEF_ALIASES = {"name": "data_chef_id"}

ALIASES: dict[str, dict[str, str]] = {
    "create_data_chef_from_csv": {**_CHEF_ALIASES, "path": "file_path"},
    "create_data_chef_from_sql": _CHEF_ALIASES,
    "create_data_chef_from_api": {**_CHEF_ALIASES, "api_endpoint": "url"},
    "preview_data_chef": _CHEF_ALIASES,
    "validate_data_chef": _CHEF_ALIASES,
    "delete_data_chef": _CHEF_ALIASES,
    "add_model_task": {"interactions_data_chef_id": "data_chef_id"},
    "session_recommend": {"item_ids": "interactions"},
}
"""Operation → alias of a field → its name."""
