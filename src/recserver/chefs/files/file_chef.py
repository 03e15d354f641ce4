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
    column_indices,
    empty_column,
    has_reference,
    invalid_field,
    read_entry,
    variable_warnings,
)
from recserver.chefs.files.allowed_paths import (
    allowed_path,
    allowed_path_at_read,
    missing_file_message,
    open_regular,
)
from recserver.chefs.files.decompression import COMPRESSION_SUFFIXES, SourceFile, other_format, utf8_reader
from recserver.chefs.files.fast_csv import (
    Block,
    Layout,
    detect_high_cardinality,
    ends_inside_quotes,
    parse_block,
    split_blocks,
)
from recserver.chefs.files.strict_csv import parse_strict
from recserver.chefs.protocol import Batch
from recserver.chefs.secrets import expand_environment
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.errors import SourceFailed, quoted
from recserver.core.validation.values import Text

MAX_HEADER_BYTES = 2**20
DELIMITERS = ",;\t|"
"""Tried in this order where none is given."""

FORMAT_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
"""What the ends of file names say; anything else is ``csv``."""

BYTES_PER_ROW = 320
MAX_BLOCK_BYTES, MIN_BLOCK_BYTES = 16 * 2**20, 2**12
"""Bytes that are taken apart at a time. Larger ones gain nothing."""

ReadBytes = Callable[[int], bytes]


def _check_delimiter(value: str) -> str:
    if value == "\\t":
        return "\t"
    if len(value) != 1 or not value.isascii() or value.isalnum() or value in '"\r\n\0 _':
        raise ValueError("must be one character, such as ; or a tab")
    return value


def _check_encoding(value: str) -> str:
    try:
        known = codecs.lookup(value)
        "a".encode(value)
    except (LookupError, ValueError):
        raise ValueError(f"{quoted(value)} is no text encoding: name one, such as cp1252") from None
    return known.name


class CsvEntry(ChefEntry):
    """``path, rename_columns``, and what is detected unless given."""

    path: Text
    format: Literal["csv", "jsonl", "parquet"] | None = None
    compression: Literal["none", "gzip", "bz2", "xz", "zstd"] | None = None
    delimiter: Annotated[str, StringConstraints(strict=True), AfterValidator(_check_delimiter)] | None = None
    encoding: Annotated[str, StringConstraints(strict=True), AfterValidator(_check_encoding)] | None = None


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
                allowed_path(self._path, policy)
            except ValueError as error:
                raise invalid_field("path", error) from None

    def warnings(self) -> list[str]:
        if unset := variable_warnings({"path": self._path}):
            return unset
        try:
            text = str(expand_environment({"path": self._path})["path"])
            missing = missing_file_message(allowed_path_at_read(text, self._policy), text)
        except SourceFailed as error:
            missing = str(error)
        return [missing] if missing else []

    def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
        path = str(expand_environment({"path": self._path})["path"])
        name = f"The file {quoted(path)}"
        spec, policy = self._spec, self._policy
        with open_regular(allowed_path_at_read(path, policy), path) as raw:
            kind = spec.format or format_from_name(path)
            if kind == "parquet":
                from recserver.chefs.files.parquet import read_parquet

                yield from read_parquet(raw, wanted, policy.batch_rows, policy.max_file_bytes, name)
                return
            file = SourceFile(raw, name, spec.compression, policy.max_file_bytes)
            if kind == "jsonl":
                from recserver.chefs.files.json_lines import read_json_lines

                found = read_json_lines(utf8_reader(file, spec.encoding), wanted, policy.batch_rows, name)
            else:
                reading = _CsvReader(file, spec, policy.batch_rows)
                self.delimiter = reading.read_header()
                found = reading.batches(wanted)
            counted = 0
            for batch in found:
                yield replace(batch, n_bytes=file.bytes_read - counted)
                counted = file.bytes_read


def format_from_name(path: str) -> str:
    """What the end of a file's name says it holds."""
    name = PurePath(path.lower())
    return FORMAT_BY_SUFFIX.get(
        (name.with_suffix("") if name.suffix in COMPRESSION_SUFFIXES else name).suffix, "csv"
    )


class _CsvReader:
    """One way through a file of delimited text."""

    def __init__(self, file: SourceFile, spec: CsvEntry, batch_rows: int) -> None:
        self._name = file.name
        self._read: ReadBytes = utf8_reader(file, spec.encoding)
        self._delimiter = spec.delimiter
        self._batch_rows = batch_rows
        self._block_bytes = max(MIN_BLOCK_BYTES, min(MAX_BLOCK_BYTES, batch_rows * BYTES_PER_ROW))
        self._rows_read = 0

    def read_header(self) -> str:
        """The delimiter. Raises SourceFailed if there is no header."""
        self._parsed_header = self._parse_header()
        return self._delimiter or ","

    def batches(self, wanted: Collection[str] | None) -> Iterator[Batch]:
        """The rows, once the header was read."""
        header, rest, line = self._parsed_header
        found = tuple(filter(None, header))
        places = column_indices(header, wanted, self._name, "rename one of them in its header")
        layout = Layout(len(header), self._delimiter or ",", places)
        yield Batch(found, {name: empty_column() for name in places})
        if not places:
            return
        cut = split_blocks(self._read, rest, line, self._block_bytes, self._name)
        for columns, rejected in self._parse_blocks(cut, layout):
            yield Batch(found, columns, rejected=rejected)

    def _parse_blocks(
        self, pending_blocks: Iterator[Block], layout: Layout
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        """The blocks, taken apart ahead by several threads, in order; by the careful reader where need be."""
        from concurrent.futures import Future, ThreadPoolExecutor

        import pyarrow as pa

        threads = pa.cpu_count()
        ahead: deque[tuple[Block, Future[Any]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            try:
                while True:
                    while len(ahead) <= threads and (block := next(pending_blocks, None)) is not None:
                        ahead.append((block, pool.submit(parse_block, block, layout)))
                        if not layout.high_cardinality and self._rows_read == 0:
                            break  # the first block tells how the others are read best
                    if not ahead:
                        return
                    block, future = ahead.popleft()
                    if (part := future.result()) is not None:
                        if self._rows_read == 0:
                            detect_high_cardinality(part[0], layout)
                        yield self._count_rows(part)
                        continue
                    # what belongs to the block: nothing, or if its last row does not end in it, all that follows
                    rest: Iterable[bytes] = iter(partial(self._read, MIN_READ_BYTES), b"")
                    if not block.unbounded and ends_inside_quotes(block, layout):
                        cut = chain([queued for queued, _ in ahead], pending_blocks)
                        rest = chain((queued.data for queued in cut), rest)
                        ahead.clear()
                    elif not block.unbounded:
                        rest = ()
                    for batch in parse_strict(
                        block,
                        rest,
                        layout,
                        rows_before=self._rows_read,
                        batch_rows=self._batch_rows,
                        name=self._name,
                    ):
                        yield self._count_rows(batch)
            finally:
                for _, future in ahead:
                    future.cancel()

    def _count_rows(self, part: tuple[dict[str, Any], Any]) -> tuple[dict[str, Any], Any]:
        columns, rejected = part
        self._rows_read += len(next(iter(columns.values()))) + sum(one.count for one in rejected)
        return part

    def _parse_header(self) -> tuple[list[str], bytes, int]:
        """The names in the first line that is not blank, surrounding blanks removed; the text behind it; its line.

        Raises:
            SourceFailed: if there is none.
        """
        start = b""
        while len(start) < MAX_HEADER_BYTES and (more := self._read(min(self._block_bytes, MAX_HEADER_BYTES))):
            start += more
            first, line_end, _ = start.lstrip().partition(b"\n")
            if line_end and first.count(b'"') % 2 == 0:
                break
        if (other := other_format(start)) is not None:
            raise SourceFailed(f"{self._name} is {other}.")
        if b"\r" in start and b"\n" not in start:  # line ends of old Macs
            start, self._read = start.replace(b"\r", b"\n"), _normalise_newlines(self._read)
        text = start[:MAX_HEADER_BYTES].decode("utf-8", "surrogateescape")
        self._delimiter = self._detect_delimiter(text.lstrip().partition("\n")[0])
        lines = io.StringIO(text, newline="")
        try:
            rows = csv.reader(lines, delimiter=self._delimiter)
            names = next((row for row in rows if any(map(str.strip, row))), None)
        except csv.Error:
            names, text = None, "quote"
        consumed = text[: len(text) - len(lines.read())]
        rest = start[len(consumed.encode("utf-8", "surrogateescape")) :]
        if names is None or (not rest and len(start) >= MAX_HEADER_BYTES):
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

    def _detect_delimiter(self, header: str) -> str:
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


def _normalise_newlines(read: ReadBytes) -> ReadBytes:
    return lambda size: read(size).replace(b"\r", b"\n")
