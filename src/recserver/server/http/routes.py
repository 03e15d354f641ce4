"""Which request calls which verb, and under which other names its fields are known."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

PREFIXES = ("", "/api/v1")
"""Every route is served under each of them."""

ID_FIELDS = frozenset(
    {
        "model_id",
        "data_chef_id",
        "task_name",
        "user_id",
        "item_id",
        "item_features_data_chef_id",
        "user_features_data_chef_id",
    }
)
"""Fields that may stand in the query of any request; others stand in the body of POST and PUT."""


LIST_FIELDS = frozenset(
    {"exclude", "candidates", "filter", "boost", "max_per", "interactions", "item_ids", "user_ids"}
)
"""Fields that are lists; in a query each is given as often as it has values."""


CACHEABLE = frozenset({"recommend", "similar_items", "similar_users", "popular_items"})
"""Verbs that answer from one version of a model, and from nothing else."""


LOCAL_OPERATIONS = CACHEABLE | {"recommend_batch", "session_recommend", "rank", "users", "items"}
"""Verbs that any process can answer which has the model."""


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint in one of its forms. ``verb`` is the name of a coroutine of the service."""

    method: str
    path: str
    operation: str
    needs_key: bool = True

    @property
    def is_cacheable(self) -> bool:
        """Whether the answer to the same address is the same, as long as the same version of the model serves."""
        return self.method == "GET" and self.operation in CACHEABLE

    @property
    def is_local(self) -> bool:
        """Whether the answer follows from a model alone; else only the process that writes knows it."""
        return self.operation in LOCAL_OPERATIONS

    @property
    def streams_progress(self) -> bool:
        """Whether the lines of the answer tell how far something is, so that each is sent at once."""
        return self.operation == "export_recommendations"

    @property
    def is_keyed_by_id(self) -> bool:
        """Whether the answer's keys are ids, so that nothing may be put among them."""
        return self.operation.startswith("list_") and self.operation not in ("list_runs", "list_model_versions")


ROUTES = (
    Route("GET", "/health", "health", needs_key=False),
    Route("GET", "/get_available_algorithms", "get_available_algorithms"),
    Route("POST", "/create_model", "create_model"),
    Route("GET", "/list_models", "list_models"),
    Route("GET", "/get_model_info", "get_model_info"),
    Route("GET", "/get_model_info/{model_id}", "get_model_info"),
    Route("DELETE", "/delete_model", "delete_model"),
    Route("DELETE", "/delete_model/{model_id}", "delete_model"),
    Route("GET", "/list_model_versions", "list_model_versions"),
    Route("GET", "/list_model_versions/{model_id}", "list_model_versions"),
    Route("POST", "/rollback_model", "rollback_model"),
    Route("POST", "/promote_model", "promote_model"),
    Route("POST", "/pin_model_version", "pin_model_version"),
    Route("POST", "/update_quality_gate", "update_quality_gate"),
    Route("POST", "/create_data_chef_from_csv", "create_data_chef_from_csv"),
    Route("POST", "/create_data_chef_from_sql", "create_data_chef_from_sql"),
    Route("POST", "/create_data_chef_from_api", "create_data_chef_from_api"),
    Route("GET", "/preview_data_chef", "preview_data_chef"),
    Route("GET", "/preview_data_chef/{data_chef_id}", "preview_data_chef"),
    Route("POST", "/validate_data_chef", "validate_data_chef"),
    Route("GET", "/list_data_chefs", "list_data_chefs"),
    Route("DELETE", "/delete_data_chef", "delete_data_chef"),
    Route("DELETE", "/delete_data_chef/{data_chef_id}", "delete_data_chef"),
    Route("POST", "/add_model_task", "add_model_task"),
    Route("POST", "/remove_model_task", "remove_model_task"),
    Route("DELETE", "/remove_model_task", "remove_model_task"),
    Route("GET", "/list_tasks", "list_tasks"),
    Route("POST", "/update_task_interval", "update_task_interval"),
    Route("PUT", "/update_task_interval", "update_task_interval"),
    Route("POST", "/run_task", "run_task"),
    Route("POST", "/stop_training", "stop_training"),
    Route("POST", "/pause_task", "pause_task"),
    Route("POST", "/resume_task", "resume_task"),
    Route("GET", "/get_training_status", "get_training_status"),
    Route("GET", "/get_training_status/{model_id}", "get_training_status"),
    Route("GET", "/list_runs", "list_runs"),
    Route("GET", "/get_run", "get_run"),
    Route("GET", "/get_run/{run_id}", "get_run"),
    Route("POST", "/restart_scheduler", "restart_scheduler"),
    Route("POST", "/stop_scheduler", "stop_scheduler"),
    Route("GET", "/get_scheduler_status", "get_scheduler_status"),
    Route("GET", "/recommend", "recommend"),
    Route("GET", "/recommend/{user_id}/{model_id}", "recommend"),
    Route("GET", "/recommend/{user_id}/{model_id}/{n}", "recommend"),
    Route("POST", "/recommend", "recommend"),
    Route("POST", "/recommend_batch", "recommend_batch"),
    Route("POST", "/export_recommendations", "export_recommendations"),
    Route("POST", "/session_recommend", "session_recommend"),
    Route("POST", "/rank", "rank"),
    Route("GET", "/similar_items", "similar_items"),
    Route("POST", "/similar_items", "similar_items"),
    Route("GET", "/similar_users", "similar_users"),
    Route("GET", "/popular_items", "popular_items"),
    Route("POST", "/popular_items", "popular_items"),
    Route("GET", "/users", "users"),
    Route("GET", "/items", "items"),
)

_CHEF_ALIASES = MappingProxyType({"name": "data_chef_id"})
_TASK_ALIASES = MappingProxyType({"interactions_data_chef_id": "data_chef_id"})

ALIASES: MappingProxyType[str, dict[str, str]] = MappingProxyType(
    {
        "create_data_chef_from_csv": {**_CHEF_ALIASES, "path": "file_path"},
        "create_data_chef_from_sql": {**_CHEF_ALIASES},
        "create_data_chef_from_api": {**_CHEF_ALIASES, "api_endpoint": "url"},
        "preview_data_chef": {**_CHEF_ALIASES},
        "validate_data_chef": {**_CHEF_ALIASES},
        "delete_data_chef": {**_CHEF_ALIASES},
        "add_model_task": {**_TASK_ALIASES},
        "session_recommend": {"item_ids": "interactions"},
    }
)
"""Per verb: another name of a field, and its proper one."""
