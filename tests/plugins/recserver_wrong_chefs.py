"""Data chefs that do one thing wrong each. The conformance suite must notice it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from recserver_xml_chef import XmlChef

from recserver.plugin import Batch, InvalidInput, RestartRead, SourceFailed, SourcePolicy

ENTRY_KEYS = {"type", "file", "fault", "auth", "password_of_ours", "process"}


class WrongChef(XmlChef):
    """An :class:`XmlChef` that is right but for the ``fault`` that its entry names."""

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        self.fault = entry.get("fault")
        self.readings = 0
        if self.fault == "refuses nothing":
            entry = {"file": "nothing", **entry}
        if self.fault == "refuses without a word" and "file" not in entry:
            raise KeyError("file")
        super().__init__(entry, policy)
        if self.fault == "looks early" and self._path.exists():
            self._path.read_bytes()
        if self.fault == "insists" and not self._path.exists():
            raise InvalidInput("file: is not there.")
        if self.fault == "refuses other keys" and set(entry) - ENTRY_KEYS:
            raise InvalidInput("The entry has keys that mean nothing.")

    def warnings(self) -> list[str]:
        if self.fault == "stumbles":
            self._path.stat()
        if self.fault == "mumbles" and not self._path.exists():
            return ["ENOENT"]
        return ["It may rain tomorrow."] if self.fault == "worries" else super().warnings()

    def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
        self.readings += 1
        if self.fault == "is mute" and not self._path.exists():
            return iter(())
        if self.fault == "fails raw":
            self._path.stat()
        if self.fault == "tells" and not self._path.exists():
            raise SourceFailed(f"Nobody is there who knows {self._entry['auth']['password']}.")
        if self.fault == "is right only here" and os.getpid() != self._entry.get("process", os.getpid()):
            raise SourceFailed("This is another process.")
        if self.fault == "gives everything":
            wanted = None
        if self.fault == "gives the usual" and wanted is None:
            wanted = {"user_id", "item_id", "rating"}
        if self.fault == "leaves a look empty" and self._batch_rows >= 1000:
            return iter(())
        return self._changed(wanted, super().batches(wanted))

    def _changed(self, wanted: Collection[str] | None, batches: Iterator[Batch]) -> Iterator[Batch]:
        with closing(batches):
            yield from self._changed_open(wanted, batches)

    def _changed_open(self, wanted: Collection[str] | None, batches: Iterator[Batch]) -> Iterator[Batch]:
        fault = self.fault
        if fault == "holds on":
            weakref.finalize(self, os.close, os.open(self._path, os.O_RDONLY))
        if fault == "reads once" and self.readings > 1:
            return
        if fault == "starts over twice" and wanted is not None and self.readings <= 2:
            raise RestartRead
        if fault == "starts a preview over" and wanted is None and self.readings == 2:
            raise RestartRead
        if fault == "turns round":
            batches = iter(list(batches)[::-1])
        if fault == "hands over everything at once":
            batches = _joined(list(batches))
        for place, batch in enumerate(batches):
            if fault == "minds the unknown" and wanted is not None:
                {name: batch.columns[name] for name in wanted}
            if fault == "stops early" and place == 10:
                return
            yield self._spoilt(batch, place)
        if fault == "dislikes emptiness" and not self._path.read_bytes().count(b"<row "):
            raise ValueError("no rows")

    def _spoilt(self, batch: Batch, place: int) -> Batch:
        columns = dict(batch.columns)
        if self.fault == "names what it gives" or (self.fault == "names columns once" and place):
            return replace(batch, column_names=tuple(columns) if self.fault == "names what it gives" else ())
        if self.fault == "gives lists":
            return replace(batch, columns={name: list(column) for name, column in columns.items()})
        if self.fault == "gives ragged columns" and place and "item_id" in columns:
            columns["item_id"] = columns["item_id"][:-1]
        if self.fault == "rounds ids":
            columns = {
                name: np.array([_rounded(one) for one in column], object) for name, column in columns.items()
            }
        return replace(batch, columns=columns)


def _rounded(value: Any) -> Any:
    return str(int(float(value))) if isinstance(value, str) and value.isdigit() else value


def _joined(batches: list[Batch]) -> Iterator[Batch]:
    if batches:
        names = batches[0].columns
        columns = {name: np.concatenate([np.asarray(one.columns[name]) for one in batches]) for name in names}
        yield Batch(batches[0].column_names, columns)
