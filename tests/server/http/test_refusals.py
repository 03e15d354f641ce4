"""The error messages of 422 are our own for every field and value, not those of a library."""

from __future__ import annotations

import re
from typing import Any

import pytest

from recserver._internal.server.http.routes import ROUTES
from recserver._internal.server.service import Service
from recserver._internal.server.service.chef_requests import DEFINITIONS
from recserver._internal.server.service.operation import parameters_of
from tests.helpers.api_client import Api

WRONG: list[Any] = ["", "no such", "-1", "x" * 100_001, -1, 1.5, 10**30, False, [], ["a"], {}, {"solver": 5}]
FOREIGN_WORDS = re.compile(
    r"[Ii]nput|[Ss]tring|should|(?<!is not a )(?<!is not )valid|Value error|argument|pattern|\^|"
    r"\b(?:int|float|bool|dict)\b"
)

OPERATIONS = {
    route.operation: route for route in ROUTES if "{" not in route.path and route.operation != "validate_data_chef"
}


async def refused(api: Api, method: str, path: str, body: dict[str, Any]) -> list[str]:
    """The error messages of a request, if it is rejected."""
    answer = await api.ask(method, path, body)
    assert answer.status != 500, answer.body
    if answer.status != 422:
        return []
    return [answer.body["detail"], *(one["msg"] for one in answer.body["errors"])]


@pytest.mark.slow
async def test_errors_of_fields_have_our_wording(api: Api, subtests: pytest.Subtests) -> None:
    for operation, route in sorted(OPERATIONS.items()):
        for name in parameters_of(getattr(Service, operation)).types:
            with subtests.test(operation=operation, name=name):
                said = [
                    one for value in WRONG for one in await refused(api, route.method, route.path, {name: value})
                ]
                assert said, f"{name} takes anything"
                assert not [one for one in said if FOREIGN_WORDS.search(one)]


async def test_errors_of_definitions_have_our_wording(api: Api, subtests: pytest.Subtests) -> None:
    for kind, definition in sorted(DEFINITIONS.items()):
        for name in definition.__annotations__:
            with subtests.test(kind=kind, name=name):
                for value in WRONG:
                    body = {"type": kind, "rows": 0, name: value}
                    said = await refused(api, "POST", "/validate_data_chef", body)
                    assert said and not [one for one in said if FOREIGN_WORDS.search(one)], value


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (
            "/list_runs?outcome=lost",
            "outcome: must be 'running', 'completed', 'unchanged', 'failed' or 'stopped'.",
        ),
        ("/list_runs?limit=0", "limit: must be a whole number from 1 to 1000."),
        ("/get_training_status", "model_id: is missing."),
        ("/get_training_status?model_id=", "model_id: must not be empty."),
        ("/get_run", "run_id: is missing."),
    ],
)
async def test_errors_list_the_allowed_values(api: Api, query: str, sentence: str) -> None:
    answer = await api.get(query)
    assert (answer.status, answer.body["detail"]) == (422, sentence)


@pytest.mark.parametrize(
    ("operation", "body", "sentence"),
    [
        ("/get_run", {"run_id": 5}, "run_id: must be text."),
        ("/get_training_status", {"model_id": ["m"]}, "model_id: must be text."),
        ("/list_runs", {"before": "x" * 100_001}, "before: must be at most 100000 characters long."),
    ],
)
async def test_errors_in_bodies_name_the_type(
    api: Api, operation: str, body: dict[str, Any], sentence: str
) -> None:
    assert (await refused(api, "GET", operation, body))[0] == sentence


async def test_errors_list_ranges_and_choices_of_hyperparameters(api: Api) -> None:
    wrong = {"n_components": "x", "solver": 5, "random_state": -1, "l1_ratio": 7, "tol": "x"}
    said = await refused(
        api, "POST", "/create_model", {"model_id": "m", "algorithm": "nmf", "hyperparameters": wrong}
    )
    assert said[1:] == [
        "must be a whole number, such as 10", "must be 'hals', 'cd' or 'mu'", "must be at least 0",
        "must be at most 1", "must be a number",
    ]  # fmt: skip
