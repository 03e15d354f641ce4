"""Reads the bytes of a file: decompresses them, limits their number, and decodes text."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from recserver._internal.core.errors import SourceFailed

ReadBytes = Callable[[int], bytes]

COMPRESSIONS = {"gzip": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ\x00", "zstd": b"\x28\xb5\x2f\xfd"}
"""Compression formats and the first bytes of their files."""

COMPRESSION_SUFFIXES = frozenset({".gz", ".bz2", ".xz", ".zst"})

MAX_RATIO = 200
"""Maximum ratio of decompressed to compressed size. That of tables is 3 to 30; that of decompression bombs is much
higher."""

RATIO_CHECK_BYTES = 64 * 2**20
"""Decompressed bytes up to which the ratio is not checked."""

BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}

OTHER_FORMATS = (
    (re.compile(rb"PK\x03\x04|\xd0\xcf\x11\xe0"), "a spreadsheet or a ZIP archive: save its table as CSV"),
    (re.compile(rb"PAR1"), "a Parquet file: give the data chef the format parquet"),
    (re.compile(rb"ARROW1\0\0"), "an Arrow file: give the data chef the format arrow"),
    (re.compile(rb"SQLite format 3\0"), "an SQLite database: create a data chef of type sql for it"),
    (re.compile(rb"%PDF-"), "a PDF: save its table as CSV"),
    (re.compile(rb"\s*<(!doctype|html|\?xml)", re.I), "HTML or XML: save its table as CSV"),
    (re.compile(rb"\s*\[\s*\{"), "a JSON array: save it as JSON lines, and give the data chef the format jsonl"),
    (re.compile(rb'\s*\{\s*"'), "JSON: save it one object per line, and give the data chef the format jsonl"),
)
"""Patterns for the start of files that are not delimited text, with their format and the remedy."""

CHUNK_SIZE = 2**16

MAX_XZ_MEMORY = 256 * 2**20
"""Bytes. The strongest preset needs a quarter of it, but a file may require gigabytes."""

_DECOMPRESSION_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError)


class SourceFile:
    """An open file, decompressed while it is read.

    Attributes:
        name: the file's name in messages.
        compression: a key of :data:`COMPRESSIONS`, or None.
    """

    def __init__(self, raw: BinaryIO, name: str, compression: str | None, max_bytes: int) -> None:
        """
        Args:
            raw: the open file.
            name: its name in messages.
            compression: a key of :data:`COMPRESSIONS`; ``none``; or None to detect it by the first bytes.
            max_bytes: maximum size after decompression.

        Raises:
            SourceFailed: if the file is not compressed as given.
        """
        self.name = name
        self._raw = raw
        self._max_bytes = max_bytes
        self._bytes_out = 0
        start = raw.peek(8)[:8]  # type: ignore[attr-defined]
        detected = next((name for name, magic in COMPRESSIONS.items() if start.startswith(magic)), None)
        if compression not in (None, "none") and detected != compression and start:
            raise SourceFailed(
                f"{name} is not compressed by {compression}: correct its compression, or leave it out."
            )
        self.compression = None if compression == "none" else detected
        self._stream = _open_decompressed(raw, self.compression)

    @property
    def bytes_read(self) -> int:
        """Bytes read from the file so far, before decompression."""
        return self._raw.tell()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; b"" at the end.

        Raises:
            SourceFailed: if the file is damaged or too large.
        """
        try:
            data: bytes = self._stream.read(size)
        except _DECOMPRESSION_ERRORS:
            problem = f"is a damaged {self.compression} file" if self.compression else "cannot be read to its end"
            raise SourceFailed(f"{self.name} {problem}: create it again.") from None
        self._bytes_out += len(data)
        if self._bytes_out > self._max_bytes:
            raise SourceFailed(
                f"{self.name} holds more than {self._max_bytes} bytes: split it, or raise "
                "RECSERVER_MAX_FILE_BYTES."
            )
        if self.compression and self._bytes_out > max(RATIO_CHECK_BYTES, MAX_RATIO * self.bytes_read):
            raise SourceFailed(
                f"{self.name} becomes more than {MAX_RATIO} times larger by decompression, which is unusual for a "
                "table: if it is correct, decompress it yourself."
            )
        return data


def _open_decompressed(raw: BinaryIO, compression: str | None) -> Any:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if compression == "bz2":
        return _ConcatenatedStreams(raw, bz2.BZ2Decompressor)
    if compression == "xz":
        return _ConcatenatedStreams(raw, lambda: lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY))
    if compression == "zstd":
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    return raw


class _ConcatenatedStreams:
    """Reads concatenated compressed streams to the end of the file.

    The readers of the standard library silently ignore invalid data after a stream. It may be the damaged second
    half of a table, whose rows would be lost unnoticed.
    """

    def __init__(
        self, raw: BinaryIO, new_decompressor: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
    ) -> None:
        self._raw, self._new_decompressor = raw, new_decompressor
        self._stream = new_decompressor()
        self._buffer = b""

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; b"" at the end. Raises the decompressor's errors, EOFError if it is truncated."""
        while True:
            if self._stream.eof:
                self._buffer = self._stream.unused_data.lstrip(b"\0")  # padding, which xz allows
                while not self._buffer:
                    if not (more := self._raw.read(CHUNK_SIZE)):
                        return b""
                    self._buffer = more.lstrip(b"\0")
                self._stream = self._new_decompressor()
            compressed = b""
            if self._stream.needs_input:
                compressed, self._buffer = self._buffer or self._raw.read(CHUNK_SIZE), b""
                if not compressed:
                    raise EOFError
            if data := self._stream.decompress(compressed, size):
                return data


def other_format(start: bytes) -> str | None:
    """The format of a file that begins with ``start``, with the remedy; None if it may be delimited text."""
    return next((description for pattern, description in OTHER_FORMATS if pattern.match(start)), None)


class TextDecoder:
    """An incremental decoder that counts lines, for error messages.

    Attributes:
        line: number of the last line that was decoded so far.
    """

    def __init__(self, read: ReadBytes, encoding: str, line: int, error: Callable[[int], SourceFailed]) -> None:
        """
        Args:
            read: returns the next bytes, b"" at the end.
            line: number of the first line.
            error: creates the error for invalid bytes, from their line number.
        """
        self.line = line
        self._read, self._error = read, error
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def read(self, size: int) -> str:
        """The text of up to ``size`` bytes; "" at the end.

        Raises:
            SourceFailed: if they cannot be decoded.
        """
        text = ""
        while not text:  # few bytes may be an incomplete character
            data = self._read(size)
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeError as error:
                valid = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
                raise self._error(self.line + bytes(valid).count(b"\n")) from None
            if not data:
                break
        self.line += text.count("\n")
        return text


def utf8_reader(file: SourceFile, encoding: str | None) -> ReadBytes:
    """A function that reads ``file`` as UTF-8 without a byte order mark, about as many bytes as requested.

    UTF-8 is not validated: the parsers have better error messages.
    """
    start = file.read(4096)
    encoding = encoding or next(
        (name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), "utf-8"
    )
    is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    ahead = [start.removeprefix(codecs.BOM_UTF8) if is_utf8 else start]

    def read(size: int) -> bytes:
        return ahead.pop() if ahead and ahead[0] else file.read(size)

    if is_utf8:
        return read

    def error(line: int) -> SourceFailed:
        return SourceFailed(f"{file.name} is not {encoding} at line {line}: correct its encoding.")

    decoder = TextDecoder(read, encoding, 1, error)
    return lambda size: decoder.read(size).encode("utf-8", "replace")
