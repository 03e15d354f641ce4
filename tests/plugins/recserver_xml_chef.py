"""A stranger's data chef: rows are elements of an XML file, and columns their attributes.

It is written unlike ours on purpose: an iterator instead of a generator, numpy instead of Arrow, no model of
its entry, and nothing of recserver but what a chef cannot do without.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np

from recserver.plugin import Batch, InvalidInput, SourceFailed, SourcePolicy, expand_environment, missing_variables


class XmlChef:
    """``file`` is relative to the data folder; ``auth`` holds a password that nobody needs."""

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        if not isinstance(entry.get("file"), str):
            raise InvalidInput("file: must be the name of a file.")
        self._entry = entry
        self._path = policy.data_dir / entry["file"]
        self._batch_rows = policy.batch_rows

    def warnings(self) -> list[str]:
        unset = [f"The environment variable {name} is not set." for name in missing_variables(self._entry)]
        return unset or ([] if self._path.is_file() else [f"There is no file {self._path}."])

    def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
        expand_environment(self._entry)
        if not self._path.is_file():
            raise SourceFailed(f"There is no file {self._path}: put it there, or correct its name.")
        return Elements(self._path, wanted, self._batch_rows)


class Elements:
    """The batches of one file."""

    def __init__(self, path: Path, wanted: Collection[str] | None, batch_rows: int) -> None:
        self._file = path.open("rb")
        self._rows = self._parsed()
        self._wanted = wanted
        self._batch_rows = batch_rows
        self._found: dict[str, None] = {}

    def __iter__(self) -> Elements:
        return self

    def __next__(self) -> Batch:
        rows = list(islice(self._rows, self._batch_rows))
        if not rows:
            self.close()
            raise StopIteration
        self._found |= {name: None for row in rows for name in row}
        names = [name for name in self._found if self._wanted is None or name in self._wanted]
        columns = {name: np.array([row.get(name) for row in rows], object) for name in names}
        return Batch(tuple(self._found), columns)

    def close(self) -> None:
        self._file.close()

    def _parsed(self) -> Iterator[dict[str, str]]:
        try:
            for _, element in ElementTree.iterparse(self._file):
                if element.tag == "row":
                    yield dict(element.attrib)
                element.clear()
        except ElementTree.ParseError as error:
            raise SourceFailed(f"{os.fspath(self._path_name())} is no XML: {error}.") from None

    def _path_name(self) -> str:
        return self._file.name


def write_rows(file: Path | BinaryIO, columns: Collection[str], rows: Collection[tuple[Any, ...]]) -> None:
    """A file that the chef reads; None is absent."""
    root = ElementTree.Element("rows")
    for row in rows:
        named = zip(columns, row, strict=True)
        ElementTree.SubElement(root, "row", {name: str(value) for name, value in named if value is not None})
    ElementTree.ElementTree(root).write(file, encoding="utf-8")
