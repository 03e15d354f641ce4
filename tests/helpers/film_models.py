"""A small model that knows everything a model may: fitted factors and neighbours, fold-in, attributes, times."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from recserver import RecServer
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.lookup import load_algorithm
from recserver._internal.algorithms.protocol import FitContext
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.recommend.model.attribute_arrays import Kind
from recserver._internal.recommend.model.item_attributes import parse_time
from recserver._internal.training.ingest.attribute_columns import (
    EncodedAttribute,
    PackedAttributes,
    pack_attributes,
)
from recserver._internal.training.jobs import TrainingJob
from recserver._internal.training.worker.train import finish_training, training_digest

ODD = "a/b\n€ ?&,%2F"
"""An item id with everything in it that an address could be broken by."""

FILMS: dict[str, dict[str, Any]] = {
    ODD: {"genre": ["Comedy"], "price": 5},
    "airplane": {"genre": ["Comedy"], "price": 9.5, "released": "1980-07-02"},
    "alien": {"genre": ["Horror", "Sci-Fi"], "price": 12, "released": "1979-05-25"},
    "big": {"genre": ["Comedy", "Drama"], "price": 7, "released": "1988-06-03"},
    "brazil": {"genre": ["Comedy", "Sci-Fi"], "price": 15, "released": "1985-02-20"},
    "clue": {"genre": ["Comedy"], "price": 8, "released": "1985-12-13"},
    "heat": {"genre": ["Drama"], "price": 20, "released": "1995-12-15"},
    "home": {"price": 3},
    "jaws": {"genre": ["Horror"], "price": 9, "released": "1975-06-20"},
    "solaris": {"genre": ["Drama", "Sci-Fi"], "released": "1972-03-20"},
    "them": {"genre": ["Horror", "Sci-Fi"], "price": 4, "released": "1954-06-19"},
    "zodiac": {"genre": ["Drama"], "price": 11, "released": "2007-03-02"},
}
"""What is known of each item, as ``GET /items`` tells it (but for times)."""

USERS: dict[str, list[str]] = {
    "ann": ["airplane", "big", "clue"],
    "ann/b\n": ["big", ODD, "airplane", "home"],
    "bob": ["alien", "jaws", "them"],
    "bert": ["alien", "solaris", "them", "brazil"],
    "cem": ["heat", "zodiac", "big"],
    "dee": ["heat", "zodiac", "solaris", "home"],
    "eve": list(FILMS),
    "fay": ["airplane", "clue", "brazil", "big"],
    "gus": ["jaws", "them", "alien", "heat"],
    "Zoë": ["clue", "airplane", "home"],
}
"""What each user interacted with, oldest first."""


def film_interactions(*, times: bool = True, users: dict[str, list[str]] = USERS) -> Interactions:
    """Those of :data:`USERS`; the later users came later, a month apart."""
    names, items = sorted(users, key=str.encode), sorted(FILMS, key=str.encode)
    rows = [sorted(items.index(item) for item in users[name]) for name in names]
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    flat = np.array([place for row in rows for place in row], np.int32)
    when = np.repeat(np.arange(len(names), dtype=np.float64) * 30 * 86_400, np.diff(indptr))
    return Interactions(
        users=names, items=items, indptr=indptr, indices=flat, ratings=np.ones(len(flat), np.float32),
        rows_used=len(flat), times=when if times else None,
    )  # fmt: skip


def film_attributes() -> PackedAttributes:
    """Those of :data:`FILMS`."""
    items = sorted(FILMS, key=str.encode)
    found = []
    for name, kind in (("genre", Kind.TEXT), ("price", Kind.NUMBER), ("released", Kind.TIME)):
        has = [
            (place, str(one))
            for place, item in enumerate(items)
            if name in FILMS[item]
            for one in (FILMS[item][name] if kind is Kind.TEXT else [FILMS[item][name]])
        ]
        texts = sorted({text for _, text in has})
        worth = {Kind.TEXT: None, Kind.NUMBER: float, Kind.TIME: parse_time}[kind]
        numbers = None if worth is None else np.array([worth(text) for text in texts])
        having = np.array([place for place, _ in has], np.int32)
        codes = np.array([texts.index(text) for _, text in has], np.int32)
        found.append(EncodedAttribute(name, kind, having, codes, texts, numbers, kind is Kind.TEXT))
    return pack_attributes(found, len(items))


def _written(path: Path, name: str, version: int, interactions: Interactions, attributes: bool) -> None:
    hyperparameters: dict[str, Any] = {}
    if name == "nmf":
        hyperparameters = {"n_components": 3, "neighbors": 4, "regularization": 0.05, "blend": 0.5}
    method = load_algorithm(name)
    job = TrainingJob(
        model_id=path.stem, model_version=version, algorithm=name, hyperparameters=hyperparameters,
        data_chef_id="films", data_chef={}, policy=SourcePolicy(data_dir=path.parent),
        out=path.with_suffix(".new"),
    )  # fmt: skip
    factors = method.fit(interactions, hyperparameters, FitContext())
    packed = film_attributes() if attributes else None
    finish_training(job, method, interactions, factors, training_digest(job, interactions), attributes=packed)
    job.out.replace(path)


def put_films(
    models: Path,
    model_id: str = "films",
    *,
    algorithm: str = "nmf",
    version: int = 1,
    interactions: Interactions | None = None,
    attributes: bool = True,
) -> Path:
    """A trained model in the folder ``models``; its ``.pkl``."""
    models.mkdir(parents=True, exist_ok=True)
    config = {"algorithm": algorithm, "status": "completed"}
    (models / f"{model_id}_config.json").write_text(json.dumps(config))
    path, learned = models / f"{model_id}.pkl", interactions or film_interactions()
    with ThreadPoolExecutor(1) as elsewhere:  # where it may block, whoever calls
        elsewhere.submit(_written, path, algorithm, version, learned, attributes).result()
    return path


async def swap_films(rec: RecServer) -> None:
    """A second version of ``films`` serves, in which ``ann`` alone has seen ``heat`` alone."""
    alone = film_interactions(users={"ann": ["heat"]})
    await asyncio.to_thread(put_films, rec.data_dir / "models", version=2, interactions=alone)
    await rec._services.model_cache.refresh()
