"""The CSV chef, which reads a file of delimited text, JSON lines, Parquet or Arrow."""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, StringConstraints

from recserver._internal.chefs.chef_entry import (
    ChefEntry,
    column_indices,
    has_reference,
    invalid_field,
    object_column,
    read_entry,
    variable_warnings,
)
from recserver._internal.chefs.files import decompression, fast_csv
from recserver._internal.chefs.files.allowed_paths import allowed_path, missing_file_message, open_regular
from recserver._internal.chefs.files.strict_csv import ParsedBatch, parse_strict
from recserver._internal.chefs.protocol import Batch
from recserver._internal.chefs.secrets import expand_environment
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import SourceFailed, quoted
from recserver._internal.core.validation.values import Text

MAX_HEADER_BYTES = 2**20
DELIMITERS = ",;\t|"
"""Delimiters that are detected, in order of preference."""

FORMAT_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
"""Suffix of the file name → format; any other is ``csv``."""

BYTES_PER_ROW = 320
MAX_BLOCK_BYTES, MIN_BLOCK_BYTES = 16 * 2**20, 2**12
"""Limits of the size of a block, in bytes. Larger blocks are not faster."""
MIN_READ_BYTES = 2**18


def _check_delimiter(value: str) -> str:
    if value == "\\t":
        return "\t"
    if len(value) != 1 or not value.isascii() or value.isalnum() or value in '"\r\n\0 _':
        raise ValueError("must be one character, such as ; or a tab")
    return value


def _check_encoding(value: str) -> str:
    try:
        codec = codecs.lookup(value)
        "a".encode(value)  # raises LookupError for codecs that are not text encodings
    except (LookupError, ValueError):
        raise ValueError(f"{quoted(value)} is not a text encoding: give one, such as cp1252") from None
    return codec.name


class CsvEntry(ChefEntry):
    """The keys of an entry of a CSV chef. All but ``path`` are detected by default."""

    path: Text
    format: Literal["csv", "jsonl", "parquet", "arrow"] | None = None
    compression: Literal["none", "gzip", "bz2", "xz", "zstd"] | None = None
    delimiter: Annotated[str, StringConstraints(strict=True), AfterValidator(_check_delimiter)] | None = None
    encoding: Annotated[str, StringConstraints(strict=True), AfterValidator(_check_encoding)] | None = None


class CsvChef:
    """Reads one file. See :class:`recserver._internal.chefs.protocol.Chef`.

    The values of delimited text are strings, exactly as written. A row with fewer fields than the header is padded
    with empty fields. A row with more is rejected, because its fields cannot be assigned to columns, unless the
    first extra field is empty, as after a trailing comma. Blank lines are ignored.

    Attributes:
        delimiter: the delimiter of the file that was read last; None if it was not delimited text.
    """

    delimiter: str | None = None

    def __init__(self, entry: Mapping[str, Any], policy: SourcePolicy) -> None:
        self._policy = policy
        self._spec = read_entry(CsvEntry, entry)
        if not has_reference(self._spec.path):
            try:
                allowed_path(self._spec.path, policy)
            except ValueError as error:
                raise invalid_field("path", error) from None

    def warnings(self) -> list[str]:
        try:
            path, text = self._resolve_path()
        except SourceFailed as error:
            return variable_warnings({"path": self._spec.path}) or [str(error)]
        return [message] if (message := missing_file_message(path, text)) else []

    def _resolve_path(self) -> tuple[Path, str]:
        """The path of the file, and its text, with environment variables expanded."""
        text = str(expand_environment({"path": self._spec.path})["path"])
        try:
            return allowed_path(text, self._policy), text
        except ValueError as error:
            raise SourceFailed(f"The file cannot be read: {error}.") from None

    def batches(self, requested: Collection[str] | None) -> Iterator[Batch]:
        path, text = self._resolve_path()
        spec, policy, name = self._spec, self._policy, f"The file {quoted(text)}"
        with open_regular(path, text) as raw:
            file_format = spec.format or format_from_name(text)
            if file_format == "parquet":
                from recserver._internal.chefs.files.parquet import read_parquet

                yield from read_parquet(raw, requested, policy.batch_rows, policy.max_file_bytes, name)
                return
            if file_format == "arrow":
                from recserver._internal.chefs.files.arrow_ipc import read_arrow_ipc

                yield from read_arrow_ipc(raw, requested, policy.batch_rows, policy.max_file_bytes, name)
                return
            file = decompression.SourceFile(raw, name, spec.compression, policy.max_file_bytes)
            read = decompression.utf8_reader(file, spec.encoding)
            if file_format == "jsonl":
                from recserver._internal.chefs.files.json_lines import read_json_lines

                batches = read_json_lines(read, requested, policy.batch_rows, name)
            else:
                reader = _CsvReader(read, name, spec, policy.batch_rows)
                self.delimiter = reader.delimiter
                batches = reader.batches(requested)
            bytes_reported = 0
            for batch in batches:
                yield replace(batch, n_bytes=file.bytes_read - bytes_reported)
                bytes_reported = file.bytes_read


def format_from_name(path: str) -> str:
    """The format of a file by its name, without the suffix of a compression."""
    name = PurePath(path.lower())
    name = name.with_suffix("") if name.suffix in decompression.COMPRESSION_SUFFIXES else name
    return FORMAT_BY_SUFFIX.get(name.suffix, "csv")


class _CsvReader:
    """Reads delimited text once. The constructor reads the header, and raises SourceFailed if it is unreadable."""

    def __init__(self, read: decompression.ReadBytes, name: str, spec: CsvEntry, batch_rows: int) -> None:
        self._read, self._name, self._batch_rows = read, name, batch_rows
        self._block_bytes = max(MIN_BLOCK_BYTES, min(MAX_BLOCK_BYTES, batch_rows * BYTES_PER_ROW))
        self._rows_read = 0
        self.delimiter = spec.delimiter or ","
        self._header, self._rest, self._line = self._read_header(spec.delimiter)

    def batches(self, requested: Collection[str] | None) -> Iterator[Batch]:
        """The rows in batches; the first one is empty."""
        names = tuple(filter(None, self._header))
        indices = column_indices(self._header, requested, self._name, "rename one of them in its header")
        layout = fast_csv.Layout(len(self._header), self.delimiter, indices)
        yield Batch(names, {name: object_column([]) for name in indices})
        if not indices:
            return
        blocks = fast_csv.split_blocks(self._read, self._rest, self._line, self._block_bytes, self._name)
        for columns, rejected in self._parse_blocks(blocks, layout):
            self._rows_read += len(next(iter(columns.values()))) + sum(one.count for one in rejected)
            yield Batch(names, columns, rejected=rejected)

    def _parse_blocks(self, blocks: Iterator[fast_csv.Block], layout: fast_csv.Layout) -> Iterator[ParsedBatch]:
        """The parsed blocks, in order; several threads parse blocks ahead.

        Blocks that the fast parser cannot parse are parsed by the strict one.
        """
        from concurrent.futures import Future, ThreadPoolExecutor

        import pyarrow as pa

        threads = pa.cpu_count()
        ahead: deque[tuple[fast_csv.Block, Future[Any]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            try:
                while True:
                    while len(ahead) <= threads and (block := next(blocks, None)) is not None:
                        ahead.append((block, pool.submit(fast_csv.parse_block, block, layout)))
                        if not layout.high_cardinality and self._rows_read == 0:
                            break  # the layout of the other blocks depends on the first one
                    if not ahead:
                        return
                    block, future = ahead.popleft()
                    if (parsed := future.result()) is not None:
                        if self._rows_read == 0:
                            fast_csv.detect_high_cardinality(parsed[0], layout)
                        yield parsed
                        continue
                    rest: Iterable[bytes] = ()
                    if fast_csv.ends_inside_quotes(block, layout):  # the rest of the file belongs to its last row
                        following = chain([queued for queued, _ in ahead], blocks)
                        unread = iter(partial(self._read, MIN_READ_BYTES), b"")
                        rest = chain((one.data for one in following), unread)
                        ahead.clear()
                    yield from parse_strict(
                        block, rest, layout, self._name, rows_before=self._rows_read, batch_rows=self._batch_rows
                    )
            finally:
                for _, future in ahead:
                    future.cancel()

    def _read_header(self, delimiter: str | None) -> tuple[list[str], bytes, int]:
        """The column names in the first line that is not blank, the text read after it, and its line number."""
        start = b""
        while len(start) < MAX_HEADER_BYTES and (more := self._read(min(self._block_bytes, MAX_HEADER_BYTES))):
            start += more
            first, line_end, _ = start.lstrip().partition(b"\n")
            if line_end and first.count(b'"') % 2 == 0:
                break
        if (other := decompression.other_format(start)) is not None:
            raise SourceFailed(f"{self._name} is {other}.")
        if b"\r" in start and b"\n" not in start:  # line ends of the classic Mac OS
            read, start = self._read, start.replace(b"\r", b"\n")
            self._read = lambda size: read(size).replace(b"\r", b"\n")
        text = start[:MAX_HEADER_BYTES].decode("utf-8", "surrogateescape")
        self.delimiter = self._detect_delimiter(text.lstrip().partition("\n")[0], delimiter)
        lines = io.StringIO(text, newline="")
        try:
            rows = csv.reader(lines, delimiter=self.delimiter)
            names = next((row for row in rows if any(map(str.strip, row))), None)
        except csv.Error:
            names = None
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
            byte_order = "le" if text.find("\0") % 2 else "be"
            utf16 = abs(2 * text.count("\0") - len(text)) <= 2 + len(names)
            hint = f", or give its encoding, probably utf-16-{byte_order}" if utf16 else ""
            raise SourceFailed(
                f"{self._name} contains a NUL character at line 1: save it as plain UTF-8 text{hint}."
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise SourceFailed(
                f"{self._name} is not UTF-8 at line 1: save it as UTF-8, or give its encoding, such as cp1252."
            ) from None

    def _detect_delimiter(self, header: str, given: str | None) -> str:
        """The given delimiter; by default the one that splits the header into most columns."""

        def n_columns(delimiter: str) -> int:
            try:
                return len(next(csv.reader([header], delimiter=delimiter), []))
            except csv.Error:
                return 0

        best = max(DELIMITERS, key=n_columns)
        if given is None:
            return best
        if n_columns(given) == 1 and n_columns(best) > 1:
            raise SourceFailed(
                f"{self._name} seems to be separated by {best!r}, not by {given!r}: correct its delimiter, or "
                "leave it out."
            )
        return given
