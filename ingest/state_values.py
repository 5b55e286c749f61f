"""State as bytes: what `snapshot` gives, written so that `decode` gives the very same again.

The bytes are a zstd frame of msgpack, in which extension types stand for what msgpack does not
know: tuples, sets, frames, arrays. Nothing in them can be executed, and no name of a class is in
them; what is read is data, whoever wrote it. Not for messages between versions: a snapshot is read
by the version that wrote it, or by one that says that it cannot use it.
"""

import io
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
import zstandard

__all__ = ["DamagedState", "decode", "encode"]

_MAGIC: Final = b"sidelong state\x01"  # the last byte is the version of this format
_MOST_BYTES: Final = 4 << 30
_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None)})
_FIRST, _LAST = -(2**63), 2**64 - 1  # what msgpack has room for
_KINDS: Final = frozenset("biufMmU")  # of arrays that are nothing but numbers or letters

_TUPLE, _SET, _FROZEN_SET, _MAP, _LARGE, _ARRAY, _OBJECTS, _SCALAR, _FRAME, _SERIES, _MOMENT = (
    range(1, 12)
)


class DamagedState(ValueError):
    """Bytes that are no state of ours, or not whole any more."""


def encode(state: Any) -> bytes:
    """The bytes of a value made of plain values, containers, arrays and frames, nested at will.

    Plain are None, booleans, integers of any size, floats, strings, bytes and moments with a zone.
    Errors: TypeError for anything else: a part gives its classes as plain values.
    """
    packed = _pack(_reduced(state))
    return _MAGIC + zstandard.ZstdCompressor(level=1, write_checksum=True).compress(packed)


def decode(content: bytes | memoryview) -> Any:
    """The value of these bytes. Arrays may be written to. Errors: DamagedState."""
    view = memoryview(content)
    if bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise DamagedState("it does not begin like a state that this version writes")
    try:
        # A frame may say any size, and as much would be asked for at once.
        if zstandard.frame_content_size(view[len(_MAGIC) :]) > _MOST_BYTES:
            raise DamagedState("it says that it is larger than any state")
        packed = zstandard.ZstdDecompressor().decompress(
            view[len(_MAGIC) :], max_output_size=_MOST_BYTES
        )
        return _unpack(packed)
    except DamagedState:
        raise
    except (zstandard.ZstdError, msgspec.MsgspecError, MemoryError) as error:
        raise DamagedState(f"it is damaged: {error}") from error
    except (pl.exceptions.PolarsError, ValueError, TypeError, IndexError, KeyError) as error:
        raise DamagedState(f"it cannot be made sense of: {error}") from error


def _reduced(value: Any) -> Any:
    """The value in what msgpack knows; what is plain already is left alone, whole lists at once."""
    kind = type(value)
    if kind is int:
        return value if _FIRST <= value <= _LAST else _as(_LARGE, str(value))
    if kind in _PLAIN:
        return value
    if (reduce := _REDUCE.get(kind)) is None:
        if isinstance(value, np.generic):
            return _as(_SCALAR, _of_array(np.asarray(value)))
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} is no plain value")
    return reduce(value)


def _list(value: list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]) -> list[Any]:
    # Integers may be too large for msgpack, so they are looked at one by one.
    if set(map(type, value)) <= _PLAIN - {int}:
        return list(value)
    return [_reduced(each) for each in value]


def _dict(value: dict[Any, Any]) -> Any:
    if set(map(type, value)) <= {str}:
        return dict(zip(value, _list(list(value.values())), strict=True))
    return _as(_MAP, [_list(list(value)), _list(list(value.values()))])


def _array(value: np.ndarray[Any, Any]) -> msgspec.msgpack.Ext:
    if value.dtype == object:
        return _as(_OBJECTS, [list(value.shape), _list(value.ravel().tolist())])
    return _as(_ARRAY, _of_array(value))


def _of_array(value: np.ndarray[Any, Any]) -> list[Any]:
    if value.dtype.kind not in _KINDS:
        raise TypeError(f"an array of {value.dtype} is no plain value")
    return [value.dtype.str, list(value.shape), value.tobytes()]


def _frame(value: pl.DataFrame) -> msgspec.msgpack.Ext:
    file = io.BytesIO()
    value.write_ipc_stream(file, compression="uncompressed")  # all is compressed together
    # Without columns there would be no height.
    return _as(_FRAME, [value.height, file.getvalue()])


def _moment(value: datetime) -> msgspec.msgpack.Ext:
    if value.tzinfo is None:
        raise TypeError("a moment without a zone is no plain value")
    return _as(_MOMENT, value.isoformat())


_REDUCE: Final[Mapping[type, Callable[[Any], Any]]] = {
    list: _list,
    dict: _dict,
    tuple: lambda value: _as(_TUPLE, _list(value)),
    set: lambda value: _as(_SET, _list(value)),
    frozenset: lambda value: _as(_FROZEN_SET, _list(value)),
    np.ndarray: _array,
    pl.DataFrame: _frame,
    pl.Series: lambda value: _as(_SERIES, [value.name, _frame(value.alias("_").to_frame()).data]),
    datetime: _moment,
}


def _as(code: int, content: Any) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, _pack(content))


def _restored(code: int, content: memoryview) -> Any:
    if (restore := _RESTORE.get(code)) is None:
        raise ValueError(f"extension {code} is not known")
    return restore(_unpack(content))


def _to_array(content: list[Any]) -> np.ndarray[Any, Any]:
    dtype, shape, values = content
    if (kind := np.dtype(dtype)).kind not in _KINDS:
        raise ValueError(f"an array of {dtype}")
    return np.frombuffer(values, kind).reshape(shape).copy()


def _to_objects(content: list[Any]) -> np.ndarray[Any, Any]:
    shape, values = content
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _to_frame(content: list[Any]) -> pl.DataFrame:
    height, values = content
    frame = pl.read_ipc_stream(io.BytesIO(values))
    return frame if frame.width else pl.DataFrame(height=height)


def _to_series(content: list[Any]) -> pl.Series:
    name, values = content
    return _to_frame(_unpack(values)).to_series().alias(name)


_RESTORE: Final[Mapping[int, Callable[[Any], Any]]] = {
    _TUPLE: tuple,
    _SET: set,
    _FROZEN_SET: frozenset,
    _MAP: lambda content: dict(zip(*content, strict=True)),
    _LARGE: int,
    _ARRAY: _to_array,
    _OBJECTS: _to_objects,
    _SCALAR: lambda content: _to_array(content)[()],
    _FRAME: _to_frame,
    _SERIES: _to_series,
    _MOMENT: datetime.fromisoformat,
}

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(ext_hook=_restored).decode
