"""Hostile ids, numbers, intervals, bodies and renames, sent to all endpoints that accept them.

Each is refused with the documented status, in the one shape of errors (which every request here checks), and
changes nothing on disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from recserver._internal.server.http.routes import ROUTES
from tests.helpers.api_client import Answer, Api

pytestmark = pytest.mark.slow

BAD_IDS = [
    "", " ", ".", "..", "...", "../etc", "a/../b", "../../etc/passwd", "model/..", "/etc/passwd", "model/sub",
    "model/", " ..", ".. ", "\t", "..\\..\\x", "a\\b", "C:\\x", "C:x", "\\\\host\\share", "%2e%2e%2fx",
    "%252e%252e%252fx", "..%c0%af", "a\x00", "a\x00.pkl", "a\n", "a\r\nb", "a\x7f", "a\u202eb",
    "\uff0e\uff0e\uff0fx", "e\u0301", "\ud800", "a" * 101, "a" * 300, ".hidden", ".lock", ".versions", "-rf", "_x",
    "a.", "a..b", "a_config", "A_METADATA", "CON", "nul", "com1.txt", "aux.pkl", "~root", "$HOME", "${PATH}",
    "{model_id}", "a;b", "a|b", "a'b", 'a"b', "a b", "*", "a:b", "<b>", None, True, 1, 1.5, [], ["a"], {},
]  # fmt: skip
GOOD_IDS = ["a", "A-1", "my_model", "model.version1", "config", "my_config2", "a" * 100]
BAD_QUERIES = {
    "model_id=..%2f..%2fconfig%2frestaurant_data.yaml": 404, "model_id=%252e%252e%252fx": 404,
    "model_id=a&model_id=..": 422, "model_id[]=a": 422, "model_id=a%00": 404, "model_id=%ff": 422,
    "model_id=": 422, "": 422,
}  # fmt: skip
BAD_N = [
    "0", "-1", "", "NaN", "1e3", "10.5", "0x10", "1_000", "\uff11\uff10", " 10 ", "+10", str(2**63), "9" * 5000,
    "1001", "10.0", "true", "null",
]  # fmt: skip
BAD_INTERVALS = [
    "1e999", "-1e999", "0", "-0", "0.0", "-0.0", "-1", "-5", "1e-12", "0.999", "5e-324", "1e12", "1e308",
    "31622401",
    "9223372036854775808", "9" * 5000, "true", "false", "null", '"3600"', '"1h"', '"NaN"', '"inf"', '""', "[]",
    "[3600]", "{}", '{"s":1}',
]  # fmt: skip
NO_JSON_INTERVALS = [
    "NaN", "-NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "1e", "0x10", "1_000", '3600,"interval":0',
]  # fmt: skip
MALFORMED_JSON = [
    b"{", b"{}{}", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b'{"model_id":"\xff"}', b'{"model_id":"\\ud800"}',
    b'{"model_id":"a","model_id":".."}', b"[" * 100_000, b'{"a":' * 65 + b"1" + b"}" * 65, b'{"a":' * 150_000,
    b'{"model_id":"a\\u0000"}', b'{"a\\u0000":1}', b'{"\\udfff":1}', b'{"a":NaN}', b'{"a":[Infinity]}', b"nul",
    b"{'model_id':'a'}", b'{"a":1,}', b"model_id=a", b"\x00", b'{"a":"\n"}', b'{"x":{"k":1,"k":1}}',
]  # fmt: skip
BAD_MODELS = {
    b'{"model_id":"a","algorithm":"os.system"}': ["body", "algorithm"],
    b'{"model_id":"a","algorithm":"recserver._internal.algorithms.nmf.algorithm:nmf"}': ["body", "algorithm"],
    b'{"model_id":"a","algorithm":""}': ["body", "algorithm"],
    b'{"model_id":"a","algorithm":["nmf"]}': ["body", "algorithm"],
    b'{"model_id":"a","algorithm":"nmf","message":5}': ["body", "message"],
    b'{"model_id":"a","algorithm":"nmf","overwrite":"yes"}': ["body", "overwrite"],
    b'{"model_id":"a","algorithm":"nmf","hyperparameters":[]}': ["body", "hyperparameters"],
    b'{"model_id":"a","algorithm":"nmf","hyperparameters":"{}"}': ["body", "hyperparameters"],
    b'{"model_id":"a","algorithm":"nmf","hyperparameters":{"tol":1e999}}': ["body", "hyperparameters"],
}
BAD_HYPERPARAMETERS = [
    b'{"n_components":1000000000}', b'{"n_components":-1}', b'{"n_components":0}', b'{"n_components":1.5}',
    b'{"n_components":null}', b'{"n_components":true}', b'{"n_components":"1e2"}', b'{"n_components":[]}',
    b'{"max_iter":"__import__(\'os\')"}', b'{"max_iter":0}', b'{"max_iter":10001}', b'{"solver":"MU"}',
    b'{"solver":null}', b'{"alpha":-0.1}', b'{"alpha":"0.1"}', b'{"l1_ratio":1.01}', b'{"tol":true}',
    b'{"random_state":-1}', b'{"random_state":4294967296}', b'{"init":"custom"}', b'{"beta_loss":"itakura-saito"}',
    b'{"tpyo":1}', b'{"":1}', b'{"n_components ":1}',
]  # fmt: skip
BAD_RENAMES = [
    "->user_id", "a->", "a->b->c", "a->user_id,b->user_id", "a->user_id,", "->", "a->" + "b" * 5000,
    "a->user_id," * 10_000, "a", ",", " ", "a:", ":a", "a->b,a->c", "a->b,a:b", {"a": ""}, {"": "a"}, {"a": 1},
    {"a": None}, {"a,b": "c"}, {"a": "b->c"}, {"a": "x", "b": "x"}, {" a": "x", "a ": "y"}, {"a": ["b"]},
    [["a", "b"]], ["a->b"], 5, True, {str(number): f"n{number}" for number in range(50_000)},
]  # fmt: skip

Snapshot = Callable[[], dict[str, bytes]]


def refusal(value: object, otherwise: int) -> int:
    """The status that a bad id in a body gets: text that JSON must not hold is no JSON, other types are no id."""
    if isinstance(value, str) and ("\0" in value or "\ud800" in value):
        return 400
    return otherwise if isinstance(value, str) and value else 422


def encoded(text: str) -> str:
    """``text`` for a URL, nothing left that could be taken for more than a character."""
    return quote(text, safe="").replace(".", "%2E").replace("~", "%7E")


# Where a new id is given: path, the field, and what else the request must say.
NEW_IDS = [
    ("/create_model", "model_id", {"algorithm": "nmf"}),
    ("/create_model", "model_id", {"algorithm": "nmf", "overwrite": True}),
    ("/create_data_chef_from_csv", "data_chef_id", {"file_path": "rows.csv"}),
    ("/create_data_chef_from_sql", "name", {"query": "SELECT 1"}),
    ("/create_data_chef_from_api", "data_chef_id", {"url": "http://localhost/"}),
    ("/add_model_task", "task_name", {"model_id": "m", "data_chef_id": "c", "interval": 3600}),
]
# Where an id is looked up.
KNOWN_IDS = [
    ("GET", "/get_model_info", "model_id", {}),
    ("DELETE", "/delete_model", "model_id", {"force": True}),
    ("DELETE", "/delete_data_chef", "data_chef_id", {}),
    ("DELETE", "/remove_model_task", "task_name", {}),
    ("POST", "/remove_model_task", "task_name", {}),
    ("PUT", "/update_task_interval", "task_name", {"interval": 60}),
    ("POST", "/add_model_task", "model_id", {"task_name": "b", "data_chef_id": "c", "interval": 60}),
    ("POST", "/add_model_task", "data_chef_id", {"task_name": "b", "model_id": "m", "interval": 60}),
    ("POST", "/recommend", "model_id", {"user_id": "u0"}),
    ("GET", "/recommend", "model_id", {"user_id": "u0"}),
]
FEATURES = ("item_features_data_chef_id", "user_features_data_chef_id")


def not_for(path: str, value: object) -> bool:
    """Whether ``value`` is a bad id of a model only, and ``path`` is about something else."""
    return path != "/create_model" and isinstance(value, str) and value in ("a_config", "A_METADATA")


async def test_bad_new_ids(trained: Api, snapshot: Snapshot, subtests: pytest.Subtests) -> None:
    for path, field, rest in NEW_IDS:
        with subtests.test(path=path, field=field, rest=rest):
            before = snapshot()
            for value in BAD_IDS:
                if not_for(path, value):
                    continue
                answer = await trained.post(path, {field: value, **rest})
                assert answer.status == refusal(value, 422), f"{path} {value!r}: {answer.body}"
                assert answer.status != 422 or answer.locs[0][0] == "body", f"{value!r}: {answer.body}"
                if isinstance(value, str) and value != "\ud800":
                    answer = await trained.post(f"{path}?{field}={encoded(value)}", rest)
                    assert (answer.status, answer.locs[0][0]) == (422, "query"), f"{path} {value!r}: {answer.body}"
                assert snapshot() == before, f"{path} {value!r} changed something"


@pytest.mark.parametrize(("path", "field", "rest"), NEW_IDS)
async def test_good_new_ids(trained: Api, path: str, field: str, rest: dict[str, Any]) -> None:
    for value in GOOD_IDS:
        await trained.ok("POST", path, {field: value, **rest})


async def test_bad_ids_are_not_found(trained: Api, snapshot: Snapshot, subtests: pytest.Subtests) -> None:
    for method, path, field, rest in KNOWN_IDS:
        with subtests.test(method=method, path=path, field=field, rest=rest):
            before = snapshot()
            for value in BAD_IDS:
                answer = await trained.ask(method, path, {field: value, **rest})
                assert answer.status == refusal(value, 404), f"{path} {value!r}: {answer.body}"
                if isinstance(value, str) and value != "\ud800":
                    answer = await trained.ask(method, f"{path}?{field}={encoded(value)}", rest)
                    assert answer.status == (404 if value else 422), f"{path} {value!r}: {answer.body}"
                assert snapshot() == before, f"{method} {path} {value!r} changed something"


KNOWN_IDS_IN_PATHS = [
    ("GET", "/get_model_info/{}"), ("DELETE", "/delete_model/{}?force=true"), ("DELETE", "/delete_data_chef/{}"),
    ("GET", "/recommend/u0/{}"), ("GET", "/recommend/u0/{}/5"),
]  # fmt: skip


async def test_bad_ids_in_paths(trained: Api, snapshot: Snapshot, subtests: pytest.Subtests) -> None:
    for method, path in KNOWN_IDS_IN_PATHS:
        with subtests.test(method=method, path=path):
            before = snapshot()
            for value in BAD_IDS:
                if isinstance(value, str) and value != "\ud800":
                    answer = await trained.ask(method, path.format(encoded(value)))
                    wanted = "_not_found" if value else "route_not_found"
                    assert answer.status == 404 and str(answer.code).endswith(wanted), (
                        f"{path} {value!r}: {answer.body}"
                    )
            for hostile in (
                "../../config/restaurant_data.yaml",
                "..%2f..%2fconfig%2frestaurant_data.yaml",
                "..%5cm",
                "m%00",
            ):
                assert (await trained.ask(method, path.format(hostile))).status == 404, hostile
            assert snapshot() == before


async def test_bad_feature_chefs(trained: Api, snapshot: Snapshot, subtests: pytest.Subtests) -> None:
    for field in FEATURES:
        with subtests.test(field=field):
            before = snapshot()
            for value in BAD_IDS:
                if value not in ("", None):
                    body = {"task_name": "b", "model_id": "m", "data_chef_id": "c", "interval": 60, field: value}
                    answer = await trained.post("/add_model_task", body)
                    assert answer.status == refusal(value, 404), f"{value!r}: {answer.body}"
            assert snapshot() == before


@pytest.mark.parametrize(("method", "path"), [("GET", "/get_model_info"), ("DELETE", "/delete_model")])
async def test_bad_queries(trained: Api, snapshot: Snapshot, method: str, path: str) -> None:
    before = snapshot()
    for query, status in BAD_QUERIES.items():
        answer = await trained.ask(method, f"{path}?{query}")
        assert answer.status == status, f"{query}: {answer.body}"
    assert snapshot() == before


async def test_bad_counts(trained: Api) -> None:
    def refused(answer: Answer, place: str, value: object) -> None:
        assert (answer.status, answer.locs) == (422, [[place, "n"]]), f"{value!r}: {answer.body}"

    for value in BAD_N:
        refused(await trained.get(f"/recommend?user_id=u0&model_id=m&n={quote(value)}"), "query", value)
        refused(await trained.post("/recommend", {"user_id": "u0", "model_id": "m", "n": value}), "body", value)
        answer = await trained.get(f"/recommend/u0/m/{quote(value)}")
        if value:
            refused(answer, "path", value)
        else:
            assert answer.code == "route_not_found"
    for number in ("0", "-1", "1001", "10.5", "1e999", "-1e999", "true", "[]", "{}", "[5]", "9" * 5000):
        raw = b'{"user_id":"u0","model_id":"m","n":%s}' % number.encode()
        refused(await trained.ask("POST", "/recommend", raw=raw), "body", number)


async def test_bad_users(trained: Api) -> None:
    for raw in (
        b'""',
        b'"%s"' % (b"a" * 257),
        b"true",
        b"[]",
        b'["u0"]',
        b"{}",
        b"1e999",
        b"1" + b"0" * 256,
        b"null",
    ):
        answer = await trained.ask("POST", "/recommend", raw=b'{"model_id":"m","user_id":%s}' % raw)
        assert (answer.status, answer.locs[0][1:]) == (422, ["user_id"]), raw
    for path in ("?model_id=m&user_id=", "?model_id=m", f"/{'a' * 257}/m"):
        answer = await trained.get(f"/recommend{path}")
        assert (answer.status, answer.locs[0][1:]) == (422, ["user_id"]), path


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/add_model_task", '"task_name":"b","model_id":"m","data_chef_id":"c"'),
        ("/update_task_interval", '"task_name":"t"'),
    ],
)
async def test_bad_intervals(trained: Api, snapshot: Snapshot, path: str, rest: str) -> None:
    before = snapshot()
    for value in BAD_INTERVALS:
        answer = await trained.ask("POST", path, raw=f'{{{rest},"interval":{value}}}'.encode())
        assert answer.status == 422, f"{value[:50]}: {answer.body}"
        assert answer.locs == [["body", "interval"]], f"{value[:50]}: {answer.body}"
    for value in NO_JSON_INTERVALS:
        answer = await trained.ask("POST", path, raw=f'{{{rest},"interval":{value}}}'.encode())
        assert (answer.status, answer.code) == (400, "malformed_json"), f"{value}: {answer.body}"
    missing = await trained.ask("POST", path, raw=f"{{{rest}}}".encode())
    assert (missing.status, missing.locs) == (422, [["body", "interval"]])
    assert snapshot() == before


@pytest.mark.parametrize("path", ["/stop_scheduler", "/restart_scheduler"])
async def test_bad_timeouts(trained: Api, path: str) -> None:
    for value in ("-1", "3600.5", "1e999", "true", '"30s"', "[]", "{}", "-0.001"):
        answer = await trained.ask("POST", path, raw=b'{"timeout":%s}' % value.encode())
        assert (answer.status, answer.locs) == (422, [["body", "timeout"]]), value
    assert (await trained.ok("GET", "/get_scheduler_status"))["data"]["is_running"] is True


async def test_malformed_json(trained: Api, snapshot: Snapshot) -> None:
    before = snapshot()
    for route in ROUTES:
        path = route.path.format(model_id="m", data_chef_id="c", user_id="u0", n="5", run_id="r")
        for body in MALFORMED_JSON if route.method != "GET" else MALFORMED_JSON[:6]:
            answer = await trained.ask(route.method, path, raw=body)
            assert (answer.status, answer.code) == (400, "malformed_json"), f"{path} {body[:50]!r}: {answer.body}"
    assert snapshot() == before


async def test_bad_models(trained: Api, snapshot: Snapshot) -> None:
    before = snapshot()
    for body, loc in BAD_MODELS.items():
        answer = await trained.ask("POST", "/create_model", raw=body)
        assert (answer.status, answer.locs) == (422, [loc]), f"{body!r}: {answer.body}"
    for params in BAD_HYPERPARAMETERS:
        raw = b'{"model_id":"a","algorithm":"nmf","hyperparameters":%s}' % params
        answer = await trained.ask("POST", "/create_model", raw=raw)
        assert answer.status == 422, f"{params!r}: {answer.body}"
        assert answer.locs == [["body", "hyperparameters", next(iter(json.loads(params)))]], params
    assert "n_components" in answer.body["detail"]  # the names that are known are told
    assert snapshot() == before


async def test_the_response_to_many_errors_is_short(api: Api) -> None:
    many = {f"{'x' * 300}{number}": 1 for number in range(2000)}
    answer = await api.post("/create_model", {"model_id": "a", "algorithm": "nmf", "hyperparameters": many})
    assert answer.status == 422 and len(json.dumps(answer.body)) < 50_000
    assert "1980" in answer.body["detail"]


@pytest.mark.parametrize(
    ("kind", "rest"),
    [("csv", {"file_path": "rows.csv"}), ("sql", {"query": "SELECT 1"}), ("api", {"url": "http://localhost/"})],
)
async def test_bad_renames(trained: Api, snapshot: Snapshot, kind: str, rest: dict[str, Any]) -> None:
    before = snapshot()
    for value in BAD_RENAMES:
        body = {"data_chef_id": "x", "rename_columns": value, **rest}
        answer = await trained.post(f"/create_data_chef_from_{kind}", body)
        assert (answer.status, answer.locs) == (422, [["body", "rename_columns"]]), f"{value!r:.99}: {answer.body}"
    assert snapshot() == before


async def test_bad_chefs(trained: Api, snapshot: Snapshot) -> None:
    deep: Any = 1
    for _ in range(30):
        deep = {"d": deep}
    config = '{"type":"sqlite","database":"x.db","more":%s}'
    before = snapshot()
    for kind, raw, field in (
        ("csv", '"path":5', "path"), ("csv", '"path":"/etc/passwd"', "path"), ("csv", '"x":1', "file_path"),
        ("sql", '"query":"DELETE FROM t"', "query"), ("sql", '"query":""', "query"),
        ("sql", '"query":"SELECT 1","db_config":[]', "db_config"),
        ("sql", '"query":"SELECT 1","db_config":{}', "db_config"),
        ("sql", '"query":"SELECT 1","db_config":' + config % json.dumps(deep), "db_config"),
        ("sql", '"query":"SELECT 1","db_config":' + config % "1e999", "db_config"),
        ("sql", '"query":"SELECT 1","connection":"sqlite:///../models/x"', "connection"),
        ("api", '"url":"file:///etc/passwd"', "url"), ("api", '"url":"http://169.254.169.254/"', "url"),
        ("api", '"url":"http://a/","paginated":"maybe"', "paginated"),
        ("api", '"url":"http://a/","paginated":false,"size_value":0', "size_value"),
        ("api", '"url":"http://a/","size_value":1.5', "size_value"),
        ("api", '"url":"http://a/","paginated":true,"pagination_param":"a&b"', "pagination_param"),
    ):  # fmt: skip
        answer = await trained.ask("POST", f"/create_data_chef_from_{kind}", raw=f'{{"name":"x",{raw}}}'.encode())
        assert answer.status == 422 and answer.locs[0][:2] == ["body", field], f"{raw[:99]}: {answer.body}"
    assert snapshot() == before
