"""The bytes of a file as its chef wants them: decompressed, capped, and text as UTF-8."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from recserver.core.errors import SourceFailed

COMPRESSIONS = {"gzip": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ\x00", "zstd": b"\x28\xb5\x2f\xfd"}
"""Kinds of compression, and what their files begin with."""

COMPRESSION_SUFFIXES = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}

MAX_RATIO = 200
"""Bytes out for one byte in. Tables shrink by 3 to 30 times; what shrinks by more was made to fill memories."""

RATIO_CHECK_BYTES = 64 * 2**20

BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}

OTHER_FORMATS = (
    (re.compile(rb"PK\x03\x04|\xd0\xcf\x11\xe0"), "a spreadsheet or a ZIP archive: save its table as CSV"),
    (re.compile(rb"PAR1"), "a Parquet file: give the data chef the format parquet"),
    (re.compile(rb"SQLite format 3\0"), "an SQLite database: make a data chef of type sql for it"),
    (re.compile(rb"%PDF-"), "a PDF: save its table as CSV"),
    (re.compile(rb"\s*<(!doctype|html|\?xml)", re.I), "HTML or XML: save its table as CSV"),
    (re.compile(rb"\s*\[\s*\{"), "a JSON array: save it as JSON lines, and give the data chef the format jsonl"),
    (re.compile(rb'\s*\{\s*"'), "JSON: save it one object a line, and give the data chef the format jsonl"),
)
"""What files that are no delimited text begin with, and what to say of them."""

CHUNK_SIZE = 2**16

MAX_XZ_MEMORY = 256 * 2**20
"""Bytes. The strongest compression needs a quarter of it; a file may ask for gigabytes."""

_DECOMPRESSION_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError)


class SourceFile:
    """A file that was opened for reading, decompressed if need be.

    Attributes:
        name: how sentences call it.
        compression: a key of :data:`COMPRESSIONS`, or None.
    """

    def __init__(self, raw: BinaryIO, name: str, compression: str | None, max_bytes: int) -> None:
        """
        Args:
            raw: the file.
            name: how sentences call it.
            compression: as told, ``none``, or None: then the file's first bytes tell.
            most_bytes: that it may hold, after decompression.
        """
        self.name = name
        self._raw = raw
        self._max_bytes = max_bytes
        self._bytes_out = 0
        begins = raw.peek(8)[:8]  # type: ignore[attr-defined]
        found = next((kind for kind, magic in COMPRESSIONS.items() if begins.startswith(magic)), None)
        if compression not in (None, "none") and found != compression and begins:
            raise SourceFailed(
                f"{name} is not compressed by {compression}: correct its compression, or leave it out."
            )
        self.compression = None if compression == "none" else found
        self._stream = _open_decompressed(raw, self.compression)

    @property
    def bytes_read(self) -> int:
        """Bytes read from the file so far, as they lie on disk."""
        return self._raw.tell()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; b"" at the end.

        Raises:
            SourceFailed: if the file is damaged, or holds too much.
        """
        try:
            data: bytes = self._stream.read(size)
        except _DECOMPRESSION_ERRORS:
            what = f"is a damaged {self.compression} file" if self.compression else "cannot be read to its end"
            raise SourceFailed(f"{self.name} {what}: write it anew.") from None
        self._bytes_out += len(data)
        if self._bytes_out > self._max_bytes:
            raise SourceFailed(
                f"{self.name} holds more than {self._max_bytes} bytes: split it, or raise "
                "RECSERVER_MAX_FILE_BYTES."
            )
        if self.compression and self._bytes_out > max(RATIO_CHECK_BYTES, MAX_RATIO * self.bytes_read):
            raise SourceFailed(
                f"{self.name} grows more than {MAX_RATIO} times when it is decompressed, which tables do not: "
                "decompress it by hand if it is right."
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
    """Compressed streams, one after the other, to the end of the file.

    Python's own readers take whatever follows the first stream and does not look like another for rubbish. It may
    be the damaged half of a table, so that its rows would be lost without a word.
    """

    def __init__(
        self, raw: BinaryIO, new_decompressor: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
    ) -> None:
        self._raw, self._new_decompressor = raw, new_decompressor
        self._stream = new_decompressor()
        self._buffer = b""

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; b"" at the end. Raises what decompressors do, EOFError if the file is cut off."""
        while True:
            if self._stream.eof:
                self._buffer = self._stream.unused_data.lstrip(b"\0")  # padding, which xz allows
                while not self._buffer:
                    if not (more := self._raw.read(CHUNK_SIZE)):
                        return b""
                    self._buffer = more.lstrip(b"\0")
                self._stream = self._new_decompressor()
            given = b""
            if self._stream.needs_input:
                given, self._buffer = self._buffer or self._raw.read(CHUNK_SIZE), b""
                if not given:
                    raise EOFError
            if data := self._stream.decompress(given, size):
                return data


def other_format(start: bytes) -> str | None:
    """What a file is that begins like this, and what to do about it, if it cannot be delimited text."""
    return next((what for beginning, what in OTHER_FORMATS if beginning.match(start)), None)


def utf8_reader(file: SourceFile, encoding: str | None) -> Callable[[int], bytes]:
    """A way to read ``file`` as UTF-8 without a byte order mark, up to about so many bytes at a time.

    What claims to be UTF-8 is handed on as it is: whoever takes it apart finds out better where it is not.
    """
    start = file.read(4096)
    encoding = encoding or next((one for mark, one in BYTE_ORDER_MARKS.items() if start.startswith(mark)), "utf-8")
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        ahead = [start.removeprefix(codecs.BOM_UTF8)]
        return lambda size: ahead.pop() if ahead and ahead[0] else file.read(size)
    return _Transcoder(file, start, encoding).read


class _Transcoder:
    """A file of another encoding, as UTF-8."""

    def __init__(self, file: SourceFile, start: bytes, encoding: str) -> None:
        self._file, self._buffer, self._encoding = file, start, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._line = 1

    def read(self, size: int) -> bytes:
        text = ""
        while not text:  # a few bytes may be only the beginning of a character
            data, self._buffer = self._buffer or self._file.read(size), b""
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeError as error:
                before = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
                self._line += bytes(before).count(b"\n")
                raise SourceFailed(
                    f"{self._file.name} is not {self._encoding} at line {self._line}: correct its encoding."
                ) from None
            if not data:
                break
        self._line += text.count("\n")
        return text.encode("utf-8", "replace")
