"""What other readers need from a CSV file to scipy's CSR: bare, with nothing judged.

These functions run in children of :mod:`bench.child`. Each reads a few rows first, so that all imports are done.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

FEW = 'user_id,item_id,rating,timestamp\n"u1","i1",1,1500000000\n"u2","i2",2,1500000001\n'
USED = ["user_id", "item_id", "rating"]

Counts = tuple[int, ...]
Read = Callable[[str], Counts]


def with_pandas(path: str) -> Callable[[], Counts]:
    """Its C engine, types given, ids to numbers by ``factorize``."""
    import pandas as pd

    def read(file: str) -> Counts:
        kinds = {"user_id": "str", "item_id": "str", "rating": np.float32}
        frame = pd.read_csv(file, engine="c", usecols=USED, dtype=kinds)
        users, user_ids = pd.factorize(frame["user_id"])
        items, item_ids = pd.factorize(frame["item_id"])
        return _csr(frame["rating"].to_numpy(), users, items, len(user_ids), len(item_ids))

    return _prepared(read, path)


def with_pyarrow(path: str) -> Callable[[], Counts]:
    """Its CSV reader, ids as dictionaries, made one for all chunks."""
    import pyarrow as pa
    from pyarrow import csv

    coded = pa.dictionary(pa.int32(), pa.string())
    options = csv.ConvertOptions(
        include_columns=USED, column_types={"user_id": coded, "item_id": coded, "rating": pa.float32()}
    )

    def read(file: str) -> Counts:
        table = csv.read_csv(file, convert_options=options).unify_dictionaries().combine_chunks()
        users, items = (table[name].combine_chunks() for name in USED[:2])
        users, items = (one.chunk(0) if isinstance(one, pa.ChunkedArray) else one for one in (users, items))
        places = users.indices.to_numpy(), items.indices.to_numpy()
        return _csr(table["rating"].to_numpy(), *places, len(users.dictionary), len(items.dictionary))

    return _prepared(read, path)


def with_polars(path: str) -> Callable[[], Counts]:
    """Its CSV reader, ids to numbers by Arrow's dictionaries."""
    import polars as pl

    def coded(column: Any) -> tuple[Any, int]:
        array = column.rechunk().to_arrow().dictionary_encode()
        return array.indices.to_numpy(), len(array.dictionary)

    def read(file: str) -> Counts:
        kinds = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32}
        frame = pl.read_csv(file, columns=USED, schema_overrides=kinds)
        users, n_users = coded(frame["user_id"])
        items, n_items = coded(frame["item_id"])
        return _csr(frame["rating"].to_numpy(), users, items, n_users, n_items)

    return _prepared(read, path)


def with_polars_categories(path: str) -> Callable[[], Counts]:
    """Its CSV reader, ids read as categories, each column with a table of its own."""
    import polars as pl

    def read(file: str) -> Counts:
        tables = {name: pl.Categories.random() for name in USED[:2]}
        kinds = {name: pl.Categorical(table) for name, table in tables.items()} | {"rating": pl.Float32}
        frame = pl.scan_csv(file, schema_overrides=kinds).select(USED).collect()
        users, items = (frame[name].to_physical().to_numpy() for name in tables)
        return _csr(frame["rating"].to_numpy(), users, items, int(users.max()) + 1, int(items.max()) + 1)

    return _prepared(read, path)


def _prepared(read: Read, path: str) -> Callable[[], Counts]:
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.csv"
        few.write_text(FEW)
        read(str(few))
    return lambda: read(path)


def _csr(ratings: Any, users: Any, items: Any, n_users: int, n_items: int) -> Counts:
    csr_array((ratings, (users, items)), shape=(n_users, n_items))
    return len(ratings), n_users, n_items
