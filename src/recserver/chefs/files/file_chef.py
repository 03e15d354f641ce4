"""The CSV chef: delimited text, JSON lines or Parquet from one file, compressed or not."""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, StringConstraints

from recserver.chefs.chef_entry import (
    ChefEntry,
    has_reference,
    no_rows,
    positions,
    read_entry,
    refused,
    variable_warnings,
)
from recserver.chefs.files.allowed_paths import absence, confined, confined_now, open_regular
from recserver.chefs.files.decompression import SUFFIXES, SourceFile, no_table, utf8
from recserver.chefs.files.fast_csv import Block, Layout, blocks, ends_open, note_distinct, parsed
from recserver.chefs.files.strict_csv import careful
from recserver.chefs.protocol import Batch
from recserver.chefs.secrets import expand_environment
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.errors import SourceFailed, shown
from recserver.core.validation.values import Text

LONGEST_HEADER = 2**20
DELIMITERS = ",;\t|"
"""Tried in this order where none is given."""

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
"""What the ends of file names say; anything else is ``csv``."""

BYTES_A_ROW = 320
LARGEST_BLOCK, SMALLEST_BLOCK = 16 * 2**20, 2**12
"""Bytes that are taken apart at a time. Larger ones gain nothing."""

Read = Callable[[int], bytes]


def _delimiter(value: str) -> str:
    if value == "\\t":
        return "\t"
    if len(value) != 1 or not value.isascii() or value.isalnum() or value in '"\r\n\0 _':
        raise ValueError("must be one character, such as ; or a tab")
    return value


def _encoding(value: str) -> str:
    try:
        known = codecs.lookup(value)
        "a".encode(value)
    except (LookupError, ValueError):
        raise ValueError(f"{shown(value)} is no text encoding: name one, such as cp1252") from None
    return known.name


class CsvEntry(ChefEntry):
    """``path, rename_columns``, and what is detected unless given."""

    path: Text
    format: Literal["csv", "jsonl", "parquet"] | None = None
    compression: Literal["none", "gzip", "bz2", "xz", "zstd"] | None = None
    delimiter: Annotated[str, StringConstraints(strict=True), AfterValidator(_delimiter)] | None = None
    encoding: Annotated[str, StringConstraints(strict=True), AfterValidator(_encoding)] | None = None


class CsvChef:
    """Reads one file. See :class:`recserver.chefs.Chef`.

    Of delimited text every value is text exactly as written. A row with fewer fields than the header has empty
    ones at its end. A row with more (unless the surplus begins empty, as a trailing comma leaves it) is left
    out, for nobody knows which of its fields are which. Blank lines are no rows.

    Attributes:
        delimiter: that the file was read with last; None if it was none of delimited text.
    """

    delimiter: str | None = None

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        self._entry = dict(entry)
        self._policy = policy
        self._spec = read_entry(CsvEntry, entry)
        self._path = self._spec.path
        if not has_reference(self._path):
            try:
                confined(self._path, policy)
            except ValueError as error:
                raise refused("path", error) from None

    def warnings(self) -> list[str]:
        if unset := variable_warnings({"path": self._path}):
            return unset
        try:
            text = str(expand_environment({"path": self._path})["path"])
            missing = absence(confined_now(text, self._policy), text)
        except SourceFailed as error:
            missing = str(error)
        return [missing] if missing else []

    def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
        path = str(expand_environment({"path": self._path})["path"])
        name = f"The file {shown(path)}"
        spec, policy = self._spec, self._policy
        with open_regular(confined_now(path, policy), path) as raw:
            kind = spec.format or format_of(path)
            if kind == "parquet":
                from recserver.chefs.files.parquet import read_parquet

                yield from read_parquet(raw, wanted, policy.batch_rows, policy.max_file_bytes, name)
                return
            file = SourceFile(raw, name, spec.compression, policy.max_file_bytes)
            if kind == "jsonl":
                from recserver.chefs.files.json_lines import read_json_lines

                found = read_json_lines(utf8(file, spec.encoding), wanted, policy.batch_rows, name)
            else:
                reading = _CsvReading(file, spec, policy.batch_rows)
                self.delimiter = reading.read_header()
                found = reading.batches(wanted)
            counted = 0
            for batch in found:
                yield replace(batch, n_bytes=file.taken - counted)
                counted = file.taken


def format_of(path: str) -> str:
    """What the end of a file's name says it holds."""
    name = PurePath(path.lower())
    return FORMATS.get((name.with_suffix("") if name.suffix in SUFFIXES else name).suffix, "csv")


class _CsvReading:
    """One way through a file of delimited text."""

    def __init__(self, file: SourceFile, spec: CsvEntry, batch_rows: int) -> None:
        self._name = file.name
        self._read: Read = utf8(file, spec.encoding)
        self._delimiter = spec.delimiter
        self._batch_rows = batch_rows
        self._size = max(SMALLEST_BLOCK, min(LARGEST_BLOCK, batch_rows * BYTES_A_ROW))
        self._rows = 0

    def read_header(self) -> str:
        """The delimiter. Raises SourceFailed if there is no header."""
        self._begun = self._header()
        return self._delimiter or ","

    def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
        """The rows, once the header was read."""
        header, rest, line = self._begun
        found = tuple(filter(None, header))
        places = positions(header, wanted, self._name, "rename one of them in its header")
        layout = Layout(len(header), self._delimiter or ",", places)
        yield Batch(found, {name: no_rows() for name in places})
        if not places:
            return
        cut = blocks(self._read, rest, line, self._size, self._name)
        for columns, rejected in self._parts(cut, layout):
            yield Batch(found, columns, rejected=rejected)

    def _parts(self, cut: Iterator[Block], layout: Layout) -> Iterator[tuple[dict[str, Any], Any]]:
        """The blocks, taken apart ahead by several threads, in order; by the careful reader where need be."""
        from concurrent.futures import Future, ThreadPoolExecutor

        import pyarrow as pa

        threads = pa.cpu_count()
        ahead: deque[tuple[Block, Future[Any]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            try:
                while True:
                    while len(ahead) <= threads and (block := next(cut, None)) is not None:
                        ahead.append((block, pool.submit(parsed, block, layout)))
                        if not layout.plain and self._rows == 0:
                            break  # the first block tells how the others are read best
                    if not ahead:
                        return
                    block, future = ahead.popleft()
                    if (part := future.result()) is not None:
                        if self._rows == 0:
                            note_distinct(part[0], layout)
                        yield self._counted(part)
                        continue
                    more: Read = self._read if block.to_the_end else _nothing_more
                    if not block.to_the_end and ends_open(block, layout):
                        more = _Following([one for one, _ in ahead], cut, self._read).read
                        ahead.clear()
                    for one in careful(
                        block, more, layout, rows_before=self._rows, batch_rows=self._batch_rows, name=self._name
                    ):
                        yield self._counted(one)
            finally:
                for _, future in ahead:
                    future.cancel()

    def _counted(self, part: tuple[dict[str, Any], Any]) -> tuple[dict[str, Any], Any]:
        columns, rejected = part
        self._rows += len(next(iter(columns.values()))) + sum(one.count for one in rejected)
        return part

    def _header(self) -> tuple[list[str], bytes, int]:
        """The names in the first line that is not blank, surrounding blanks removed; the text behind it; its line.

        Raises:
            SourceFailed: if there is none.
        """
        start = b""
        while len(start) < LONGEST_HEADER and (more := self._read(min(self._size, LONGEST_HEADER))):
            start += more
            first, line_end, _ = start.lstrip().partition(b"\n")
            if line_end and first.count(b'"') % 2 == 0:
                break
        if (other := no_table(start)) is not None:
            raise SourceFailed(f"{self._name} is {other}.")
        if b"\r" in start and b"\n" not in start:  # line ends of old Macs
            start, self._read = start.replace(b"\r", b"\n"), _with_newlines(self._read)
        text = start[:LONGEST_HEADER].decode("utf-8", "surrogateescape")
        self._delimiter = self._delimiter_of(text.lstrip().partition("\n")[0])
        lines = io.StringIO(text, newline="")
        try:
            rows = csv.reader(lines, delimiter=self._delimiter)
            names = next((row for row in rows if any(map(str.strip, row))), None)
        except csv.Error:
            names, text = None, "quote"
        consumed = text[: len(text) - len(lines.read())]
        rest = start[len(consumed.encode("utf-8", "surrogateescape")) :]
        if names is None or (not rest and len(start) >= LONGEST_HEADER):
            problem = "has no readable header line" if text.strip() else "is empty"
            raise SourceFailed(f"{self._name} {problem}: its first line must name the columns.")
        self._check_header(names)
        return [name.strip() for name in names], rest, 1 + consumed.count("\n")

    def _check_header(self, names: list[str]) -> None:
        text = "".join(names)
        if "\0" in text:
            ends = "le" if text.find("\0") % 2 else "be"
            utf16 = abs(2 * text.count("\0") - len(text)) <= 2 + len(names)
            cure = f", or give its encoding, probably utf-16-{ends}" if utf16 else ""
            raise SourceFailed(f"{self._name} holds a NUL character at line 1: save it as plain UTF-8 text{cure}.")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise SourceFailed(
                f"{self._name} is not UTF-8 at line 1: save it as UTF-8, or give its encoding, such as cp1252."
            ) from None

    def _delimiter_of(self, header: str) -> str:
        """As given; else the one that makes most columns of the header."""

        def columns(mark: str) -> int:
            try:
                return len(next(csv.reader([header], delimiter=mark), []))
            except csv.Error:
                return 0

        best = max(DELIMITERS, key=columns)
        if self._delimiter is None:
            return best if columns(best) > 1 else ","
        if columns(self._delimiter) == 1 and columns(best) > 1:
            raise SourceFailed(
                f"{self._name} seems to be separated by {best!r}, not by {self._delimiter!r}: correct its "
                "delimiter, or leave it out."
            )
        return self._delimiter


class _Following:
    """The text behind a block, some of which was cut into blocks already."""

    def __init__(self, ahead: list[Block], cut: Iterator[Block], read: Read) -> None:
        self._blocks, self._rest = chain(ahead, cut), read
        self._data = b""

    def read(self, size: int) -> bytes:
        if not self._data:
            self._data = next((one.data for one in self._blocks if one.data), b"") or self._rest(size)
        data, self._data = self._data[:size], self._data[size:]
        return data


def _nothing_more(size: int) -> bytes:
    return b""


def _with_newlines(read: Read) -> Read:
    return lambda size: read(size).replace(b"\r", b"\n")
