"""How much a Parquet file claims to hold, found out before anything is allocated for it.

Footer and pages say how large they are once unpacked, and may say anything. All of them are walked;
what they mean is left to polars, which reads the file only when the sums fit.

Source: parquet-format 2.12, `parquet.thrift`; Thrift's compact protocol.
"""

from typing import Final

from sidelong.ingest.raw_values import Unreadable

__all__ = ["check_parquet"]

_MAGIC: Final = b"PAR1"
_MOST_PAGES: Final = 1 << 14
_MOST_VALUES: Final = 1 << 18  # of the footer, or of one page's header
_DEEPEST: Final = 16
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)

_Struct = dict[int, object]


def check_parquet(content: bytes, most_bytes: int, most_rows: int) -> None:
    """Errors: Unreadable when it is no whole file, or more than that once it is unpacked."""
    if len(content) < 12 or not (content.startswith(_MAGIC) and content.endswith(_MAGIC)):
        raise Unreadable("Parquet, cut off before its end")
    size = int.from_bytes(content[-8:-4], "little")
    if size > len(content) - 12:
        raise Unreadable(f"Parquet, with a footer of {size:,} bytes where there are fewer")
    try:
        footer, _ = _Thrift(content[-8 - size : -8]).struct(0)
        rows = _number(footer.get(3))
        if not 0 <= rows <= most_rows:
            raise Unreadable(f"Parquet of {rows:,} rows, more than {most_rows:,}")
        pages = unpacked = 0
        for group in _structs(footer.get(4)):
            for column in _structs(group.get(1)):
                for held in _pages(content, _struct(column.get(3)), most_rows):
                    pages, unpacked = pages + 1, unpacked + held
                    if unpacked > most_bytes or pages > _MOST_PAGES:
                        raise Unreadable(
                            f"Parquet of more than {most_bytes >> 20:,} MiB once it is unpacked"
                        )
    except (IndexError, ValueError):
        raise Unreadable("Parquet, with a footer or a page that cannot be read") from None


def _pages(content: bytes, column: _Struct, most_rows: int) -> list[int]:
    """What each page of a column holds once it is unpacked, in bytes."""
    offsets = [_number(column[field]) for field in (9, 11) if column.get(field)]
    size = _number(column.get(7))
    at = min(offsets, default=0)
    end = at + size
    if not 0 <= at <= end <= len(content):
        raise Unreadable(f"Parquet, with a column of {size:,} bytes where there are fewer")
    held: list[int] = []
    while at < end and len(held) <= _MOST_PAGES:
        header, used = _Thrift(content[at : min(end, at + (64 << 10))]).struct(0)
        unpacked, packed = _number(header.get(2)), _number(header.get(3))
        if unpacked < 0 or packed < 0 or at + used + packed > end:
            raise Unreadable(f"Parquet, with a page of {packed:,} bytes where there are fewer")
        for kind in (5, 7, 8):
            # Lists have more values than rows; no more than one for each byte of a batch.
            values = _number(_struct(header.get(kind)).get(1)) if kind in header else 0
            if not 0 <= values <= most_rows * 16:
                raise Unreadable(f"Parquet, with a page of {values:,} values")
        held.append(unpacked)
        at += used + packed
    return held


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError
    return value


def _struct(value: object) -> _Struct:
    if not isinstance(value, dict):
        raise ValueError
    return value


def _structs(value: object) -> list[_Struct]:
    if not isinstance(value, list):
        raise ValueError
    return [_struct(one) for one in value]


class _Thrift:
    """Structs of Thrift's compact protocol. Errors: IndexError, ValueError for what is none."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self._left = _MOST_VALUES

    def struct(self, depth: int) -> tuple[_Struct, int]:
        """Its fields by number, and where it ends."""
        fields: _Struct = {}
        number = 0
        while kind := self._byte():
            delta = kind >> 4
            number = number + delta if delta else self._zigzag()
            fields[number] = self._value(kind & 0xF, depth + 1)
        return fields, self._at

    def _value(self, kind: int, depth: int) -> object:
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise ValueError
        match kind:
            case 1 | 2:
                return kind == _TRUE
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._zigzag()
            case 7:
                self._skip(8)
                return None
            case 8:
                self._skip(self._varint())
                return None
            case 9 | 10:
                return self._list(depth)
            case 11:
                self._map(depth)
                return None
            case 12:
                return self.struct(depth)[0]
        raise ValueError

    def _list(self, depth: int) -> list[object]:
        head = self._byte()
        count, kind = head >> 4, head & 0xF
        count = self._varint() if count == 15 else count
        if count > self._left:
            raise ValueError
        if kind in (_TRUE, _FALSE):  # in a list each is a byte
            kind = _BYTE
        return [self._value(kind, depth + 1) for _ in range(count)]

    def _map(self, depth: int) -> None:
        count = self._varint()
        if count > self._left:
            raise ValueError
        kinds = self._byte() if count else 0
        for _ in range(count):
            self._value(kinds >> 4, depth + 1)
            self._value(kinds & 0xF, depth + 1)

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _skip(self, count: int) -> None:
        self._at += count
        if self._at > len(self._content):
            raise IndexError

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError

    def _zigzag(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)
