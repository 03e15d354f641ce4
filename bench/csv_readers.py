"""From a CSV file to scipy's CSR by other libraries, without validation of rows.

These functions are for :mod:`bench.fresh_process`. Each reads a small file first, so that imports are not timed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

SMALL_CSV = 'user_id,item_id,rating,timestamp\n"u1","i1",1,1500000000\n"u2","i2",2,1500000001\n'
COLUMNS = ["user_id", "item_id", "rating"]

Counts = tuple[int, ...]
Read = Callable[[str], Counts]


def with_pandas(path: str) -> Callable[[], Counts]:
    """pandas' C engine with explicit types; ids are encoded by ``factorize``."""
    import pandas as pd

    def read(file: str) -> Counts:
        dtypes = {"user_id": "str", "item_id": "str", "rating": np.float32}
        frame = pd.read_csv(file, engine="c", usecols=COLUMNS, dtype=dtypes)
        users, user_ids = pd.factorize(frame["user_id"])
        items, item_ids = pd.factorize(frame["item_id"])
        return _csr(frame["rating"].to_numpy(), users, items, len(user_ids), len(item_ids))

    return _warmed_up(read, path)


def with_pyarrow(path: str) -> Callable[[], Counts]:
    """pyarrow's CSV reader; ids are dictionary-encoded, with one dictionary for all chunks."""
    import pyarrow as pa
    from pyarrow import csv

    encoded = pa.dictionary(pa.int32(), pa.string())
    options = csv.ConvertOptions(
        include_columns=COLUMNS, column_types={"user_id": encoded, "item_id": encoded, "rating": pa.float32()}
    )

    def read(file: str) -> Counts:
        table = csv.read_csv(file, convert_options=options).unify_dictionaries().combine_chunks()
        users, items = (table[name].combine_chunks() for name in COLUMNS[:2])
        users, items = (one.chunk(0) if isinstance(one, pa.ChunkedArray) else one for one in (users, items))
        codes = users.indices.to_numpy(), items.indices.to_numpy()
        return _csr(table["rating"].to_numpy(), *codes, len(users.dictionary), len(items.dictionary))

    return _warmed_up(read, path)


def with_polars(path: str) -> Callable[[], Counts]:
    """polars' CSV reader; ids are encoded by Arrow's ``dictionary_encode``."""
    import polars as pl

    def encode(column: Any) -> tuple[Any, int]:
        array = column.rechunk().to_arrow().dictionary_encode()
        return array.indices.to_numpy(), len(array.dictionary)

    def read(file: str) -> Counts:
        dtypes = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32}
        frame = pl.read_csv(file, columns=COLUMNS, schema_overrides=dtypes)
        users, n_users = encode(frame["user_id"])
        items, n_items = encode(frame["item_id"])
        return _csr(frame["rating"].to_numpy(), users, items, n_users, n_items)

    return _warmed_up(read, path)


def with_polars_categories(path: str) -> Callable[[], Counts]:
    """polars' CSV reader; ids are read as categoricals, with separate categories for each column."""
    import polars as pl

    def read(file: str) -> Counts:
        categories = {name: pl.Categories.random() for name in COLUMNS[:2]}
        dtypes = {name: pl.Categorical(each) for name, each in categories.items()} | {"rating": pl.Float32}
        frame = pl.scan_csv(file, schema_overrides=dtypes).select(COLUMNS).collect()
        users, items = (frame[name].to_physical().to_numpy() for name in categories)
        return _csr(frame["rating"].to_numpy(), users, items, int(users.max()) + 1, int(items.max()) + 1)

    return _warmed_up(read, path)


def _warmed_up(read: Read, path: str) -> Callable[[], Counts]:
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.csv"
        small.write_text(SMALL_CSV)
        read(str(small))
    return lambda: read(path)


def _csr(ratings: Any, users: Any, items: Any, n_users: int, n_items: int) -> Counts:
    csr_array((ratings, (users, items)), shape=(n_users, n_items))
    return len(ratings), n_users, n_items
