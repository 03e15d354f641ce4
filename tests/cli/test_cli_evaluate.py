"""``recserver evaluate``, over real files."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from recserver._internal.training import algorithm_comparison
from recserver._internal.training.executors.process_pool import ProcessExecutor
from recserver._internal.training.executors.protocol import OnProgress
from recserver._internal.training.jobs import CandidateJob, CandidateResult
from recserver._internal.training.worker.evaluate_candidate import evaluate_candidate
from tests.helpers.cli_call import Command
from tests.helpers.cli_process import Start

KEYS = {"algorithm", "ndcg_at_10", "recall_at_20", "hr_at_10", "coverage", "seconds", "peak_mb"}
FILMS = ["--user", "userId", "--item", "movieId", "--timestamp", "timestamp"]


def sample_rows(users: int = 60) -> list[str]:
    """Rows of two groups of users with separate items; each user lacks a third of the items of the group."""
    return [
        f"u{user},{'ab'[user % 2]}{item},{item % 5 + 1}"
        for user in range(users)
        for item in range(12)
        if (user // 2 + item) % 3
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["user_id,item_id,rating", *sample_rows()]) + "\n")
    return path


class InThisProcess(ProcessExecutor):
    """Evaluates algorithms without worker processes."""

    async def evaluate_candidate(self, job: CandidateJob, on_progress: OnProgress) -> CandidateResult:
        return await asyncio.to_thread(evaluate_candidate, job, on_progress)


@pytest.fixture
def evaluate(command: Command) -> Command:
    """Runs ``recserver evaluate ARGUMENTS``."""
    return partial(command, "evaluate")


@pytest.fixture
def quick(evaluate: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs ``recserver evaluate ARGUMENTS`` without worker processes, each of which takes a second to start."""
    monkeypatch.setattr(algorithm_comparison, "ProcessExecutor", InThisProcess)
    return evaluate


def rows_of(evaluate: Command, *arguments: str) -> list[dict[str, Any]]:
    """The rows of a comparison."""
    status, out, err = evaluate(*arguments, "--json")
    assert (status, err) == (0, "")
    rows: list[dict[str, Any]] = json.loads(out)
    return rows


@pytest.mark.slow
@pytest.mark.process
async def test_algorithms_are_compared_on_real_data(start: Start, test_data: Path) -> None:
    file = str(test_data / "ml-latest-small" / "ratings.csv")
    options = (
        "--algorithms",
        "nmf_fast,item_knn,popular",
        "--hyperparameters",
        '{"nmf_fast": {"n_components": 20}}',
    )
    process = await start("evaluate", "--data", file, *FILMS, *options, "--json")
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    rows = json.loads(out)
    assert [row["algorithm"] for row in rows] == ["nmf_fast", "item_knn", "popular"]
    assert all(set(row) == KEYS for row in rows)
    popular = rows[2]
    for row in rows[:2]:
        assert row["ndcg_at_10"] > popular["ndcg_at_10"] > 0
        assert 0 < row["coverage"] <= 1 and row["seconds"] > popular["seconds"] >= 0
        assert 2000 > row["peak_mb"] > popular["peak_mb"] > 20


@pytest.mark.process
@pytest.mark.slow
def test_the_table_has_the_baseline_and_names_the_best_algorithm(evaluate: Command, file: Path) -> None:
    status, out, err = evaluate("--data", "rows.csv", "--algorithms", "item_knn, als,item_knn")
    assert status == 0
    first, heads, *lines = out.splitlines()
    assert first == ("Train: 360 interactions, 60 users, 24 items. Test: 120 (a random fifth), 60 users.")
    assert heads.split()[:5] == ["algorithm", "ndcg_at_10", "recall_at_20", "hr_at_10", "coverage"]
    names = [line.split()[0] for line in lines]
    assert set(names[:2]) == {"item_knn", "als"} and names[2] == "popularity,"
    assert lines[3].startswith(f"Best: {names[0]} (NDCG@10 ")
    assert err.splitlines() == ["item_knn (1 of 2)", "als (2 of 2)"]


def test_a_seed_holds_out_other_pairs(quick: Command, file: Path) -> None:
    found = [
        rows_of(quick, "--data", "rows.csv", "--algorithms", "popular", *more)[0]["ndcg_at_10"]
        for more in ([], ["--seed", "0"], ["--seed", "5"], ["--seed", "5", "--split", "random"])
    ]
    assert found[0] == found[1] != found[2] == found[3]


def test_a_parquet_file_is_read_like_a_csv_file(quick: Command, file: Path) -> None:
    pq.write_table(csv.read_csv(file), file.with_suffix(".parquet"))
    both = [
        rows_of(quick, "--data", name, "--algorithms", "item_knn,popular") for name in ("rows.csv", "rows.parquet")
    ]
    for of_csv, of_parquet in zip(*both, strict=True):
        assert of_csv["ndcg_at_10"] > 0
        assert all(of_csv[key] == of_parquet[key] for key in KEYS - {"seconds", "peak_mb"})
    (file.with_suffix(".parquet")).write_bytes(b"PAR1 and no more")
    status, _, err = quick("--data", "rows.parquet", "--algorithms", "popular")
    assert status == 1 and err.startswith("recserver: ") and err.count("\n") == 1


def test_a_given_pair_is_used_as_it_is(quick: Command, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("user_id,item_id\nu,a\nv,a\nv,b\nw,c\nw,b\n")
    (tmp_path / "test.jsonl").write_text('{"user_id": "u", "item_id": "b"}\n{"user_id": "w", "item_id": "x"}\n')
    (row,) = rows_of(quick, "--train", "train.csv", "--test", "test.jsonl", "--algorithms", "popular")
    assert (row["ndcg_at_10"], row["recall_at_20"], row["hr_at_10"]) == (0.5, 0.5, 0.5)


@pytest.mark.process
@pytest.mark.slow
def test_an_algorithm_that_fails_affects_only_its_own_row(
    evaluate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"u{n % 9},i{n % 7},{-1 if n % 9 < 8 else 1}" for n in range(63)]
    (tmp_path / "train.csv").write_text("\n".join(["user_id,item_id,rating", *[f"{one[:-1]}0" for one in lines]]))
    (tmp_path / "test.csv").write_text("user_id,item_id\nu1,i9\n")
    arguments = ["--train", "train.csv", "--test", "test.csv", "--algorithms", "popular,item_knn"]
    popular, failed = rows_of(evaluate, *arguments)  # the error of a process of its own
    assert set(popular) == KEYS
    assert set(failed) == KEYS | {"error"}
    assert {failed[key] for key in KEYS - {"algorithm"}} == {None}
    assert "Every rating is zero or negative" in failed["error"]
    monkeypatch.setattr(algorithm_comparison, "ProcessExecutor", InThisProcess)
    status, out, _ = evaluate(*arguments)
    assert status == 0 and "Every rating is zero or negative" in out
    status, out, _ = evaluate(*arguments[:-1], "item_knn", "--json")
    assert (status, json.loads(out)) == (1, [failed])


def test_hyperparameters_are_those_of_the_fit(quick: Command, file: Path) -> None:
    arguments = ["--data", "rows.csv", "--algorithms", "item_knn"]
    (default,) = rows_of(quick, *arguments)
    (one,) = rows_of(quick, *arguments, "--hyperparameters", '{"item_knn": {"neighbors": 1}}')
    assert one["ndcg_at_10"] != default["ndcg_at_10"]


def test_by_default_all_built_in_algorithms_are_compared(quick: Command, tmp_path: Path) -> None:
    from recserver._internal.algorithms.lookup import ALGORITHM_PATHS

    (tmp_path / "few.csv").write_text("\n".join(["user_id,item_id", *(line[:-2] for line in sample_rows(12))]))
    rows = rows_of(quick, "--data", "few.csv")
    assert {row["algorithm"] for row in rows} == set(ALGORITHM_PATHS) - {"auto"}
    assert all(set(row) == KEYS for row in rows)


FILE = ["--data", "rows.csv"]


@pytest.mark.parametrize(
    ("status", "arguments", "sentence"),
    [
        (2, [*FILE, "--algorithms", "nmf,alss"], "'alss' is not known: take one of als, "),
        (2, [*FILE, "--algorithms", " ,"], "--algorithms is empty: write it like nmf,als,ease"),
        (2, [*FILE, "--user", "who"], "rows.csv has no column 'who' but 'user_id', 'item_id', 'rating': name the"),
        (2, [*FILE, "--rating", "stars"], "no column 'stars'"),
        (2, [*FILE, "--split", "time"], "no column 'timestamp' but"),
        (2, [*FILE, "--user", "item_id", "--item", "item_id"], "'item_id' is given twice"),
        (2, [*FILE, "--split", "time", "--seed", "1"], "--seed is for random splits"),
        (2, [*FILE, "--hyperparameters", "{"], "--hyperparameters is not valid JSON: write it like"),
        (2, [*FILE, "--hyperparameters", "[1]"], "--hyperparameters is not a JSON object"),
        (2, [*FILE, "--algorithms", "als", "--hyperparameters", '{"nmf": {}}'], "'nmf' is not compared"),
        (2, [*FILE, "--algorithms", "als", "--hyperparameters", '{"als": 5}'], "of als are not an object"),
        (
            2,
            [*FILE, "--algorithms", "als", "--hyperparameters", '{"als": {"k": 5}}'],
            "als: hyperparameters.k: is",
        ),
        (2, [], "No data given: use --data, or --train and --test"),
        (2, [*FILE, "--test", "rows.csv"], "--train and --test replace --data: give both"),
        (2, ["--train", "rows.csv"], "--train and --test replace --data: give both"),
        (2, ["--train", "rows.csv", "--test", "rows.csv", "--seed", "1"], "are already split"),
        (
            1,
            ["--train", "rows.csv", "--test", "rows.csv"],
            "No held-out interactions to evaluate: no user of --test",
        ),
        (1, ["--data", "absent.csv"], "There is no file absent.csv: check the path."),
        (1, ["--data", "single.csv"], "No held-out interactions to evaluate: no user has two items"),
        (1, ["--data", "empty.csv"], "empty"),
    ],
)
def test_errors_are_one_sentence(
    evaluate: Command, file: Path, status: int, arguments: list[str], sentence: str
) -> None:
    (file.parent / "single.csv").write_text("user_id,item_id\nu,a\nv,b\n")
    (file.parent / "empty.csv").write_text("")
    ended, out, err = evaluate(*arguments)
    assert (ended, out) == (status, "")
    assert err.startswith("recserver: ") and sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--split", "sideways"], ["--seed", "-1"], ["--seed", "x"]])
def test_invalid_values_are_refused(evaluate: Command, file: Path, arguments: list[str]) -> None:
    status, _, err = evaluate(*FILE, *arguments)
    assert (status, arguments[0] in err) == (2, True)
