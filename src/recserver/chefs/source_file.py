"""The bytes of a file as its chef wants them: decompressed, capped, and text as UTF-8."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from recserver.errors import SourceFailed

COMPRESSIONS = {"gzip": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ\x00", "zstd": b"\x28\xb5\x2f\xfd"}
"""Kinds of compression, and what their files begin with."""

SUFFIXES = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}

LARGEST_RATIO = 200
"""Bytes out for one byte in. Tables shrink by 3 to 30 times; what shrinks by more was made to fill memories."""

RATIO_MATTERS_FROM = 256 * 2**20

BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}

_DAMAGES = (EOFError, OSError, zlib.error, lzma.LZMAError)


class SourceFile:
    """A file that was opened for reading, decompressed if need be.

    Attributes:
        name: how sentences call it.
        compression: a key of :data:`COMPRESSIONS`, or None.
    """

    def __init__(self, raw: BinaryIO, name: str, compression: str | None, most_bytes: int) -> None:
        """
        Args:
            raw: the file.
            name: how sentences call it.
            compression: as told, ``none``, or None: then the file's first bytes tell.
            most_bytes: that it may hold, after decompression.
        """
        self.name = name
        self._raw = raw
        self._most_bytes = most_bytes
        self._given = 0
        begins = raw.peek(8)[:8]  # type: ignore[attr-defined]
        found = next((kind for kind, magic in COMPRESSIONS.items() if begins.startswith(magic)), None)
        if compression not in (None, "none") and found != compression and begins:
            raise SourceFailed(
                f"{name} is not compressed by {compression}: correct its compression, or leave it out."
            )
        self.compression = None if compression == "none" else found
        self._stream = _decompressed(raw, self.compression)

    @property
    def taken(self) -> int:
        """Bytes read from the file so far, as they lie on disk."""
        return self._raw.tell()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; b"" at the end.

        Raises:
            SourceFailed: if the file is damaged, or holds too much.
        """
        try:
            data: bytes = self._stream.read(size)
        except _DAMAGES:
            what = f"is a damaged {self.compression} file" if self.compression else "cannot be read to its end"
            raise SourceFailed(f"{self.name} {what}: write it anew.") from None
        self._given += len(data)
        if self._given > self._most_bytes:
            raise SourceFailed(
                f"{self.name} holds more than {self._most_bytes} bytes: split it, or raise "
                "RECSERVER_MAX_FILE_BYTES."
            )
        if self.compression and self._given > max(RATIO_MATTERS_FROM, LARGEST_RATIO * self.taken):
            raise SourceFailed(
                f"{self.name} grows more than {LARGEST_RATIO} times when it is decompressed, which tables do not: "
                "decompress it by hand if it is right."
            )
        return data


def _decompressed(raw: BinaryIO, compression: str | None) -> Any:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if compression == "bz2":
        return bz2.BZ2File(raw)
    if compression == "xz":
        return lzma.LZMAFile(raw)
    if compression == "zstd":
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    return raw


def utf8(file: SourceFile, encoding: str | None) -> Callable[[int], bytes]:
    """A way to read ``file`` as UTF-8 without a byte order mark, up to about so many bytes at a time.

    What claims to be UTF-8 is handed on as it is: whoever takes it apart finds out better where it is not.
    """
    start = file.read(4096)
    encoding = encoding or next((one for mark, one in BYTE_ORDER_MARKS.items() if start.startswith(mark)), "utf-8")
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        ahead = [start.removeprefix(codecs.BOM_UTF8)]
        return lambda size: ahead.pop() if ahead and ahead[0] else file.read(size)
    return _Transcoded(file, start, encoding).read


class _Transcoded:
    """A file of another encoding, as UTF-8."""

    def __init__(self, file: SourceFile, start: bytes, encoding: str) -> None:
        self._file, self._ahead, self._encoding = file, start, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._line = 1

    def read(self, size: int) -> bytes:
        text = ""
        while not text:  # a few bytes may be only the beginning of a character
            data, self._ahead = self._ahead or self._file.read(size), b""
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
