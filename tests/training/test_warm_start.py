"""Warm starts: when a training begins where the one before ended, and when not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recserver._internal.algorithms.nmf import tuning
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.storage.model_file import load
from recserver._internal.training.jobs import TrainingJob, TrainingResult
from recserver._internal.training.worker.train import train

pytestmark = pytest.mark.slow

ROWS = [
    (f"u{user:03}", f"i{item:03}") for user in range(120) for item in range(user % 5, 60, 5) if (user * item) % 7
]


class Data:
    """A model that is trained again and again from a CSV file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.version = folder, 0
        self.write(ROWS)

    def write(self, rows: list[tuple[str, str]]) -> None:
        (self.folder / "rows.csv").write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in rows))

    def file(self, version: int) -> Path:
        return self.folder / f"{version}.pkl"

    def train(
        self,
        *,
        algorithm: str = "nmf",
        previous_model: Path | None = None,
        event_weights: dict[str, float] | None = None,
        **given: Any,
    ) -> TrainingResult:
        """The next version, from the one before it if there is one."""
        self.version += 1
        chef: dict[str, Any] = {"type": "csv", "path": "rows.csv", "event_weights": event_weights}
        job = TrainingJob(
            model_id="m",
            model_version=self.version,
            algorithm=algorithm,
            hyperparameters={"n_components": 8, "neighbors": 10, **given} if algorithm != "als" else given,
            data_chef_id="c",
            data_chef=chef,
            policy=SourcePolicy(data_dir=self.folder),
            out=self.file(self.version),
            previous_model=previous_model or (self.file(self.version - 1) if self.version > 1 else None),
        )
        return train(job, lambda _: None)


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cold start chooses the hyperparameters that are not given from two candidates, which is quick."""
    monkeypatch.setattr(tuning, "REGULARIZATIONS", (0.1,))
    monkeypatch.setattr(tuning, "BLENDS", (0.3, 0.7))


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


def starts(result: TrainingResult) -> int:
    return int(result.model_metrics["warm_starts"])


def test_a_retraining_on_a_little_more_starts_warm_and_needs_fewer_iterations(data: Data) -> None:
    first = data.train()
    assert starts(first) == 0
    data.write([*ROWS, ("u000", "i059"), ("new", "i003"), ("u001", "new item"), ("new", "new item")])
    second = data.train()
    assert starts(second) == 1
    assert second.model_metrics["iterations"] < first.model_metrics["iterations"]
    assert second.model_metrics["n_users"] == first.model_metrics["n_users"] + 2  # new, and u000
    chosen = {name: first.hyperparameters[name] for name in ("regularization", "blend")}
    assert {name: second.hyperparameters[name] for name in chosen} == chosen
    cold = data.train(previous_model=data.folder / "none", **chosen)
    assert starts(cold) == 0
    assert second.model_metrics["reconstruction_error"] == pytest.approx(
        cold.model_metrics["reconstruction_error"], rel=0.05
    )


def test_who_is_new_gets_factors(data: Data) -> None:
    data.train(blend=0.3)
    data.write([*ROWS, *(("new", f"i{item:03}") for item in range(0, 40, 5))])
    data.train(blend=0.3)
    arrays = load(data.file(2)).arrays
    ids = bytes(arrays["user_text"]).decode()
    assert ids.startswith("new")
    assert arrays["user_factors"][0].any()


def test_every_so_often_one_is_cold(data: Data) -> None:
    assert [starts(data.train(warm_starts=2)) for _ in range(5)] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    "given", [{"n_components": 9}, {"regularization": 0.2}, {"solver": "cd"}, {"warm_starts": 0}, {"neighbors": 9}]
)
def test_other_hyperparameters_start_cold(data: Data, given: dict[str, Any]) -> None:
    data.train()
    assert starts(data.train(**given)) == 0


def test_another_algorithm_starts_cold(data: Data) -> None:
    data.train()
    assert starts(data.train(algorithm="nmf_fast")) == 0
    assert starts(data.train(algorithm="als")) == 0
    assert starts(data.train()) == 0


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[: len(ROWS) // 2],
        ROWS * 1 + [(f"x{user}", item) for user, item in ROWS],
        [(f"x{user}", item) if place % 3 else (user, item) for place, (user, item) in enumerate(ROWS)],
        [(user, f"x{item}") if place % 3 else (user, item) for place, (user, item) in enumerate(ROWS)],
    ],
    ids=["half", "twice", "other users", "other items"],
)
def test_other_data_start_cold(data: Data, rows: list[tuple[str, str]]) -> None:
    data.train()
    data.write(rows)
    assert starts(data.train()) == 0


def test_neighbors_alone_leave_nothing_to_start_from(data: Data) -> None:
    data.train(blend=1.0)
    assert starts(data.train(blend=1.0)) == 0


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_a_file_that_cannot_be_read_starts_cold(data: Data, content: bytes | None) -> None:
    data.train()
    path = data.folder / "odd.pkl"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert starts(data.train(previous_model=path)) == 0


def test_a_header_by_somebody_else_starts_cold(data: Data) -> None:
    from recserver._internal.storage import model_file as artifact

    data.train()
    packed = load(data.file(1))
    changes: tuple[dict[str, Any], ...] = (
        {"warm_starts": "many"}, {"warm_starts": [1]}, {"warm_starts": -5}, {"asked": None}, {"chosen": 3},
        {"chosen": {"nothing": 1}}, {"chosen": {"blend": 7}}, {"chosen": {"regularization": "much"}},
    )  # fmt: skip
    for number, change in enumerate(changes):
        path = data.folder / f"odd{number}.pkl"
        artifact.pack(path, packed.header | change, packed.arrays)
        assert starts(data.train(previous_model=path)) == 0, json.dumps(change)
    n_items = len(packed.arrays["item_counts"])
    arrays = (
        {"user_factors": np.ones(3, np.float32)},
        {"item_scale": np.ones(3, np.float32)},
        {"item_scale": -np.ones(n_items, np.float32)},
        {"item_scale": np.full(n_items, 1e-300)},
    )
    for number, other in enumerate(arrays):
        path = data.folder / f"other{number}.pkl"
        artifact.pack(path, packed.header, packed.arrays | other)
        assert starts(data.train(previous_model=path)) == 0, number


def test_what_was_given_is_not_overruled_by_what_was_chosen(data: Data) -> None:
    from recserver._internal.storage import model_file as artifact

    data.train(blend=0.3, max_iter=7)
    packed = load(data.file(1))
    chosen = {"blend": 0.9, "max_iter": 1, "regularization": 0.2}
    artifact.pack(data.folder / "odd.pkl", packed.header | {"chosen": chosen}, packed.arrays)
    found = data.train(blend=0.3, max_iter=7, previous_model=data.folder / "odd.pkl")
    assert starts(found) == 1
    assert [found.hyperparameters[name] for name in chosen] == [0.3, 7, 0.2]


def test_a_growing_rank_starts_cold_and_chooses_again(data: Data) -> None:
    """With fewer users than components every new user adds one."""
    for number in range(3):
        data.write([row for row in ROWS if int(row[0][1:]) < 40 + number])
        assert starts(data.train(n_components=500)) == 0
        assert load(data.file(number + 1)).header["chosen"].keys() == {"regularization", "blend"}


def test_other_meanings_of_the_same_pairs_start_cold(data: Data) -> None:
    data.train()
    (data.folder / "rows.csv").write_text("user_id,item_id,event\n" + "".join(f"{u},{i},view\n" for u, i in ROWS))
    assert starts(data.train(event_weights={"view": 2})) == 0
