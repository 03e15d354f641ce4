"""The HTTP status of every error code."""

from __future__ import annotations

STATUSES = {
    "malformed_json": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "origin_not_allowed": 403,
    "host_not_allowed": 403,
    "route_not_found": 404,
    "model_not_found": 404,
    "data_chef_not_found": 404,
    "task_not_found": 404,
    "run_not_found": 404,
    "version_not_found": 404,
    "user_not_found": 404,
    "item_not_found": 404,
    "method_not_allowed": 405,
    "model_exists": 409,
    "data_chef_exists": 409,
    "task_exists": 409,
    "model_busy": 409,
    "model_in_use": 409,
    "model_not_trained": 409,
    "export_under_way": 409,
    "read_only": 409,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "validation_error": 422,
    "source_failed": 422,
    "export_failed": 422,
    "internal_error": 500,
    "storage_unreadable": 503,
    "draining": 503,
    "writer_away": 503,
}
"""The status of every error code that an answer can bear."""
