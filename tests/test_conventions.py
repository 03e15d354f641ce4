"""Project rules: everything is documented, and time is read through the clock."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections import ChainMap
from pathlib import Path
from typing import Any, get_args

import pytest

import recserver
from recserver import RecServer
from recserver._internal.algorithms.lookup import ALGORITHM_PATHS, load_algorithm
from recserver._internal.chefs.files.file_chef import FORMAT_BY_SUFFIX, CsvEntry
from recserver._internal.chefs.rest.paginators import (
    Cursor,
    HeaderCursor,
    HeaderLink,
    JsonLink,
    Offset,
    PageNumber,
)
from recserver._internal.chefs.rest.rest_entry import ApiEntry, ApiKey, Basic, Bearer
from recserver._internal.chefs.sql.database_config import DbConfig
from recserver._internal.chefs.sql.sql_chef import SqlEntry
from recserver._internal.core.errors import InvalidInput, RecServerError
from recserver._internal.recommend.request_options import RankOptions, UserOptions
from recserver._internal.registry.model_status import ModelStatus
from recserver._internal.registry.quality_gate import QualityGate
from recserver._internal.server.http.routes import ROUTES
from recserver._internal.server.settings import Settings
from tests.helpers.doc_blocks import pages, read_page

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "recserver").rglob("*.py"))
HTTP_API = read_page("docs/http-api.md")


DOCUMENTED_FIELDS = re.findall(r"```.*?```|`[^`]+`", read_page("docs/data-chefs.md"), re.DOTALL)
"""What ``docs/data-chefs.md`` sets as code, as a block or in a line."""


def test_every_endpoint_is_documented() -> None:
    paths = {route.path for route in ROUTES}
    assert [path for path in paths if not re.search(rf"`[^`]*{re.escape(path)}(`|\?)", HTTP_API)] == []


def test_every_setting_is_documented() -> None:
    text = read_page("docs/settings.md")
    assert [name for name in Settings.model_fields if f"`RECSERVER_{name.upper()}`" not in text] == []


def test_every_algorithm_and_status_is_documented() -> None:
    assert [name for name in (*ALGORITHM_PATHS, *ModelStatus) if f"`{name}`" not in HTTP_API] == []


def test_every_request_option_is_documented() -> None:
    names = UserOptions.__annotations__ | RankOptions.__annotations__
    assert [name for name in names if f"`{name}`" not in HTTP_API] == []


def test_every_threshold_of_the_quality_gate_can_be_changed_and_is_documented() -> None:
    names = set(QualityGate.model_fields)
    assert names <= set(inspect.signature(RecServer.update_quality_gate).parameters)
    assert [name for name in names if f"`{name}`" not in HTTP_API] == []


def test_every_key_of_a_data_chef_is_documented() -> None:
    """Keys of an entry, and those within ``paginator``, ``auth`` and ``db_config``."""
    entries = (CsvEntry, SqlEntry, ApiEntry, DbConfig)
    parts = (Bearer, ApiKey, Basic, PageNumber, Offset, Cursor, JsonLink, HeaderLink, HeaderCursor)
    names = {name for model in (*entries, *parts) for name in model.model_fields}
    words = {word for code in DOCUMENTED_FIELDS for word in re.findall(r"[\w-]+", code)}
    assert sorted(names - words) == []


def test_every_file_format_is_documented_and_detected() -> None:
    formats = get_args(get_args(CsvEntry.model_fields["format"].annotation)[0])
    assert set(FORMAT_BY_SUFFIX.values()) | {"csv"} == set(formats)
    documented = {word for code in DOCUMENTED_FIELDS for word in re.findall(r"[.\w-]+", code)}
    assert sorted({*formats, *FORMAT_BY_SUFFIX} - documented) == []


def test_every_error_code_has_a_status_and_is_documented() -> None:
    def statuses(kind: type[RecServerError]) -> dict[str, int]:
        return dict(ChainMap({kind.code: kind.status}, *(statuses(one) for one in kind.__subclasses__())))

    inside = {"training_failed", "source_unchanged", "worker_died", "cannot_start"}
    public = {code: status for code, status in statuses(RecServerError).items() if code not in inside}
    assert [code for code, status in public.items() if status == 500] == ["internal_error"]
    documented = {code for code in public if f"`{code}`" in HTTP_API}
    assert set(public) - documented == {"forbidden"}  # scopes of keys will need it


def calls_in_sources(pattern: str) -> dict[str, list[str]]:
    """The calls in every module of recserver that ``pattern`` matches."""
    found = {path.name: re.findall(pattern, path.read_text(encoding="utf-8")) for path in SOURCES}
    return {name: calls for name, calls in found.items() if calls}


def test_time_comes_through_the_clock() -> None:
    found = calls_in_sources(r"\btime\.(?:time|monotonic|sleep)\(|\bdatetime\.now\(|\basyncio\.sleep\(")
    assert found.keys() == {"clock.py", "_fake_clock.py"}


def test_every_public_name_can_be_imported() -> None:
    assert all(inspect.isclass(getattr(recserver, name)) for name in recserver.__all__)
    with pytest.raises(AttributeError):
        _ = recserver.RunEnd


def test_no_unsafe_deserialization() -> None:
    found = calls_in_sources(r"\b(?:pickle|joblib|marshal|dill)\.loads?\(|\byaml\.\w*load\(")
    assert found == {"chef_store.py": ["yaml.load("]}  # by a loader stricter than the safe one


def test_links_between_pages_are_valid() -> None:
    for page in pages():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", read_page(page)):
            assert ((ROOT / page).parent / target).exists(), (page, target)


@pytest.mark.slow
def test_the_server_imports_no_heavy_library() -> None:
    heavy = "sklearn", "pandas", "scipy"
    code = (
        "import sys; from recserver._internal.server import rec_server; "
        "from recserver._internal.cli.commands import serve; "
        "from recserver._internal.registry import model_cache; "
        "import recserver._internal.algorithms.nmf.algorithm; "
        f"print([one for one in {heavy} if one in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".github/workflows/ci.yml"])
def test_named_targets_of_make_exist(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?:^|[`:]) ?make ([a-z]+)", read_page(page), re.MULTILINE)
    assert targets and not [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)]


def documented_hyperparameters() -> dict[str, dict[str, tuple[str, str]]]:
    """Algorithm → hyperparameter → values and default, as the table of the page has them."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    table = HTTP_API[HTTP_API.index("| Of | Hyperparameter |") :].split("\n\n")[0]
    name = ""
    for line in table.splitlines()[2:]:
        of, hyperparameters, values, default = (part.strip() for part in line.split("|")[1:5])
        name = of or name
        for one in re.findall(r"`(\w+)`", hyperparameters):
            found.setdefault(name, {})[one] = values, default
    return found


@pytest.mark.parametrize("name", ["nmf", "als", "ease", "item_knn", "svd", "auto"])
def test_every_hyperparameter_is_documented_with_its_default(name: str) -> None:
    method: Any = load_algorithm(name)
    documented = documented_hyperparameters()[name]
    assert list(documented) == list(method.params.model_fields)
    for one, (values, default) in documented.items():
        is_default = method.params.model_fields[one].default
        if is_default is None:
            assert default in ("", "auto")
        elif isinstance(is_default, int | float):
            assert float(default) == is_default
        else:
            assert default == (is_default if isinstance(is_default, str) else ", ".join(is_default))
        for part in re.findall(r"[a-z_]+", values) if isinstance(is_default, str) else ():
            method.check({one: part})
        if limits := re.match("([0-9]+)\u2013([0-9]+)", values):
            for limit, beyond in zip(limits.groups(), (-1, 1), strict=True):
                method.check({one: float(limit)})
                with pytest.raises(InvalidInput):
                    method.check({one: float(limit) + beyond})


@pytest.mark.parametrize("name", ALGORITHM_PATHS)
def test_defaults_of_algorithm_variants_are_documented(name: str) -> None:
    method: Any = load_algorithm(name)
    (defaults,) = re.findall(rf"^\| `{name}` \| [^|]+ \|([^|]*)\|", HTTP_API, re.MULTILINE)
    documented = dict(re.findall(r"`(\w+)` ([\w.]+)", defaults))
    usual = {one: field.default for one, field in method.params.model_fields.items()}
    own = {one: value for one, value in method.default_params.items() if value != usual[one]}
    assert documented == {one: str(value) for one, value in own.items()}
