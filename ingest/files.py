"""Files and standard input as streams of decompressed bytes.

gzip and zstd are recognised by their first bytes, never by a suffix. A stream that turns out to be
cut off or corrupt ends where the damage is: what came before is read like any other, and
`Stream.damage` says what was wrong, so that the source can count it.

Sources: RFC 1952 (gzip), RFC 8878 (Zstandard).
"""

import io
import os
import select
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import zstandard

from sidelong.errors import SourceError

__all__ = ["STANDARD_INPUT", "InputFile", "Stream", "consumed", "damage", "idle"]

STANDARD_INPUT: Final = "-"

_STANDARD_INPUT_FD: Final = 0
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = b"\x2a\x4d\x18"  # after one byte of 0x50 to 0x5f
_CHUNK: Final = 128 << 10
# zstd has no bound on what one call may give: a block of 128 KiB can be written in 4 bytes. What
# goes into one call is kept small instead, so that it gives 32 MiB at the very most.
_ZSTD_CHUNK: Final = 1 << 10
_PAUSE_SECONDS: Final = 0.1


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Gzip:
    """zlib's decompressor with a bound on what one call gives."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def tail(self) -> bytes:
        return self._inner.unconsumed_tail

    def decompress(self, data: bytes, /) -> bytes:
        return self._inner.decompress(data, _CHUNK)


class _Decompressed(io.RawIOBase):
    """The bytes of `file` after decompression, if it needs any."""

    def __init__(self, file: io.FileIO, name: str) -> None:
        super().__init__()
        self._file = file
        self._name = name
        self._input = b""  # read and not yet decompressed
        self._output = bytearray()  # decompressed and not yet handed out
        self._ended = False
        self.consumed = 0
        self.damage: str | None = None
        while len(self._input) < len(_ZSTD) and (more := self._read_file()):
            self._input += more
        self.packing = _packing(self._input)
        self._decompressor = self._next_decompressor()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        if self._decompressor is None and not (self._output or self._input or self._ended):
            return self._read_plain(buffer)
        self.fill(1)
        taken = min(len(buffer), len(self._output))
        buffer[:taken] = self._output[:taken]
        del self._output[:taken]
        return taken

    def fill(self, wanted: int) -> bytes:
        """At least `wanted` bytes of what comes next, unless it ends or pauses; takes nothing."""
        while len(self._output) < wanted and not self._ended:
            if self._output and self.idle():
                break
            self._advance()
        return bytes(self._output[:wanted])

    def idle(self) -> bool:
        """Whether nothing more arrives for a moment. Only a pipe ever is."""
        if self._output or self._input or self._ended:
            return False
        return not self._ready()

    def _ready(self) -> bool:
        """Whether a read would not wait; looks for a tenth of a second."""
        try:
            return bool(select.select([self._file], [], [], _PAUSE_SECONDS)[0])
        except (OSError, ValueError):  # not something one can wait for
            return True

    def _advance(self) -> None:
        if not self._input:
            self._input = self._read_file()
        if self._decompressor is None:
            self._output += self._input
            self._ended = not self._input
            self._input = b""
        elif self._input:
            self._decompress(self._decompressor)
        else:
            self._ended = True
            self.damage = f"cut off inside its {self.packing} data"

    def _decompress(self, decompressor: _Decompressor) -> None:
        size = _CHUNK if isinstance(decompressor, _Gzip) else _ZSTD_CHUNK
        piece, self._input = self._input[:size], self._input[size:]
        try:
            self._output += decompressor.decompress(piece)
        except (zlib.error, zstandard.ZstdError) as error:
            self._end(f"corrupt {self.packing} data ({error})")
            return
        if not decompressor.eof:
            if isinstance(decompressor, _Gzip):
                self._input = decompressor.tail + self._input
            return
        # Members and frames may follow each other, as `cat a.gz b.gz` and rotated logs have it.
        self._input = decompressor.unused_data + self._input
        while len(self._input) < len(_ZSTD) and (more := self._read_file()):
            self._input += more
        if not self._input.strip(b"\0"):
            self._end(None)  # padding of tapes and of block devices
        elif _packing(self._input) != self.packing:
            self._end(f"something else follows its {self.packing} data")
        else:
            self._decompressor = self._next_decompressor()

    def _end(self, damage: str | None) -> None:
        self._ended = True
        self._input = b""
        self.damage = damage

    def _next_decompressor(self) -> _Decompressor | None:
        if self.packing == "gzip":
            return _Gzip()
        if self.packing == "zstd":
            return zstandard.ZstdDecompressor().decompressobj()
        return None

    def _read_file(self) -> bytes:
        with self._readable():
            content = self._file.read(_CHUNK) or b""
        self.consumed += len(content)
        return content

    def _read_plain(self, buffer: bytearray | memoryview) -> int:
        with self._readable():
            size = self._file.readinto(buffer) or 0
        self.consumed += size
        self._ended = not size
        return size

    @contextmanager
    def _readable(self) -> Iterator[None]:
        # polars leaves a handler of signals behind under which an interrupt does not end a read
        # that waits. Waiting is therefore done here, between two instructions of Python.
        while not self._ready():
            pass
        try:
            yield
        except OSError as error:
            raise SourceError(
                f"{self._name} cannot be read any further: {error.strerror}",
                hint="copy it to a local disk and try that",
            ) from error


def _packing(start: bytes) -> str | None:
    if start.startswith(_GZIP):
        return "gzip"
    if start.startswith(_ZSTD) or (start[1:4] == _ZSTD_SKIPPABLE and 0x50 <= start[0] <= 0x5F):
        return "zstd"
    return None


class Stream(io.BufferedReader):
    """Decompressed bytes, from start to end; it cannot seek.

    `read1` gives what is there, `read` waits for as much as it was asked for, as everywhere.
    """

    def __init__(self, file: io.FileIO, name: str) -> None:
        self._decompressed = _Decompressed(file, name)
        super().__init__(self._decompressed, _CHUNK)

    @property
    def consumed(self) -> int:
        """Bytes taken from the file so far, as they lie on disk."""
        return self._decompressed.consumed

    @property
    def damage(self) -> str | None:
        """Why the stream ended early, once it has; None if it did not."""
        return self._decompressed.damage

    @property
    def packing(self) -> str | None:
        """How the file is compressed: "gzip", "zstd" or not at all."""
        return self._decompressed.packing

    def head(self, size: int) -> bytes:
        """The next `size` bytes, or fewer at the end or a pause, left to be read."""
        return self._decompressed.fill(size)

    def idle(self) -> bool:
        """Whether a pipe has nothing more for now. Waits a tenth of a second to find out."""
        return self._decompressed.idle()


def consumed(stream: BinaryIO, otherwise: int) -> int:
    """`Stream.consumed` of a `Stream`, else `otherwise`: the count of what was read from it."""
    return stream.consumed if isinstance(stream, Stream) else otherwise


def damage(stream: BinaryIO) -> str | None:
    """`Stream.damage` of a `Stream`; other streams have none."""
    return stream.damage if isinstance(stream, Stream) else None


def idle(stream: BinaryIO) -> bool:
    """`Stream.idle` of a `Stream`; other streams never are."""
    return isinstance(stream, Stream) and stream.idle()


class InputFile:
    """A file, a named pipe or standard input ("-"), to be opened as a `Stream`.

    name: for messages. size_bytes: on disk; None for a pipe. Errors: SourceError when it is
    missing, not permitted or a directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard input" if path == STANDARD_INPUT else path
        status = self._status()
        regular = stat.S_ISREG(status.st_mode)
        self.size_bytes = status.st_size if regular else None
        self._opened = False
        self._once = path == STANDARD_INPUT or not regular
        self._waiting: Stream | None = None  # a pipe that was looked into and not read yet

    def head(self, size: int) -> tuple[bytes, str | None]:
        """The first `size` bytes after decompression, fewer if there are fewer; and the damage."""
        if self._once:
            self._waiting = self._waiting or self._open()
            return self._waiting.head(size), self._waiting.damage
        with self._open() as stream:
            return stream.head(size), stream.damage

    def open(self) -> Stream:
        """A stream from its start. Errors: SourceError for a pipe that was already read."""
        stream, self._waiting = self._waiting or self._open(), None
        return stream

    def _open(self) -> Stream:
        if self._opened and self._once:
            raise SourceError(
                f"{self.name} is a pipe and can be read only once",
                hint="save it to a file first and give that",
            )
        self._opened = True
        try:
            if self.path == STANDARD_INPUT:
                return Stream(io.FileIO(_STANDARD_INPUT_FD, closefd=False), self.name)
            return Stream(io.FileIO(self.path), self.name)
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def _status(self) -> os.stat_result:
        try:
            if self.path == STANDARD_INPUT:
                return os.fstat(_STANDARD_INPUT_FD)
            status = Path(self.path).stat()
        except (OSError, ValueError) as error:
            raise _unreadable(self.name, error) from error
        if stat.S_ISDIR(status.st_mode):
            raise SourceError(
                f"{self.name} is a directory, not a file", hint="name the files in it"
            )
        return status


def _unreadable(name: str, error: Exception) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceError(f"there is no {name}", hint="check the path, or quote a pattern")
    if isinstance(error, PermissionError):
        return SourceError(
            f"{name} may not be read: permission denied",
            hint="read it as a user who may, or change its mode",
        )
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return SourceError(f"{name} cannot be opened: {reason}", hint="check the path")
