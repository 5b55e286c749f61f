"""Endpoints and TCP flags of Hubble's protobuf, each distinct value decoded once.

In a batch of ten thousand flows a few hundred endpoints occur, again and again and down to the
byte. They are therefore kept as bytes until here, and numbered; what a number stands for lies in
columns that are only ever appended to, or emptied as a whole.

Sources: `flow/flow.proto` of Cilium 1.19.
"""

from typing import Final

import polars as pl
from google.protobuf.message import DecodeError

from sidelong.ingest.hubble_names import RESERVED
from sidelong.ingest.hubble_pb2 import Endpoint, TCPFlags
from sidelong.ingest.schema import TCP_FLAGS

__all__ = ["MALFORMED", "EndpointTable", "FlagTable"]

MALFORMED: Final = -1
"""The number of what cannot be decoded."""

_MOST_ENDPOINTS: Final = 100_000
_MOST_BYTES: Final = 32 << 20
_MOST_FLAGS: Final = 4_096


class EndpointTable:
    """Numbers for endpoints as they stand in a message, and the workload and pod of each number.

    Numbers hold until the next `tidy`, which forgets everything once there are more than `most`
    endpoints or 32 MiB of them.
    """

    def __init__(self, most: int = _MOST_ENDPOINTS) -> None:
        self._most = most
        self._clear()

    def _clear(self) -> None:
        self.numbers: dict[bytes, int] = {b"": 0}
        self._bytes = 0
        self._workloads = pl.Series([None], dtype=pl.String)
        self._pods = pl.Series([None], dtype=pl.String)
        self._new: list[tuple[str | None, str | None]] = []
        self._next = 1

    def tidy(self) -> None:
        """To be called between batches, never inside of one: it bounds what is kept."""
        if len(self.numbers) > self._most or self._bytes > _MOST_BYTES:
            self._clear()

    def add(self, content: bytes) -> int:
        """The number of an endpoint that is not in `numbers` yet, or `MALFORMED`."""
        number = self._next
        try:
            self._new.append(_named(Endpoint.FromString(content)))
        except DecodeError:
            number = MALFORMED
        else:
            self._next += 1
        self.numbers[content] = number
        self._bytes += len(content)
        return number

    def numbers_of(self, contents: pl.Series) -> pl.Series:
        """The number of each of `contents`, which are binary; null counts as empty."""
        distinct = contents.unique()
        get, add = self.numbers.get, self.add
        numbers = []
        for content in distinct.to_list():
            number = get(content or b"")
            numbers.append(add(content) if number is None else number)
        return contents.replace_strict(distinct, pl.Series(numbers, dtype=pl.Int32))

    def workloads(self, numbers: pl.Series) -> pl.Series:
        """The workload of each number, null where there is none."""
        self._append()
        return self._workloads.gather(numbers.clip(0))

    def pods(self, numbers: pl.Series) -> pl.Series:
        """The pod of each number, null where there is none."""
        self._append()
        return self._pods.gather(numbers.clip(0))

    def _append(self) -> None:
        if self._new:
            workloads, pods = zip(*self._new, strict=True)
            self._workloads.append(pl.Series(workloads, dtype=pl.String))
            self._pods.append(pl.Series(pods, dtype=pl.String))
            self._new = []


class FlagTable:
    """The bits of TCP flags as they stand in a message; remembers what it has decoded."""

    def __init__(self) -> None:
        self.bits: dict[bytes, int] = {}

    def add(self, content: bytes) -> int:
        """The bits of flags that are not in `bits` yet, or `MALFORMED`."""
        try:
            flags = TCPFlags.FromString(content)
        except DecodeError:
            bits = MALFORMED
        else:
            bits = sum(bit for name, bit in TCP_FLAGS.items() if getattr(flags, name))
        if len(self.bits) >= _MOST_FLAGS:  # 512 combinations occur; a client may send others
            self.bits.clear()
        self.bits[content] = bits
        return bits

    def bits_of(self, contents: pl.Series) -> pl.Series:
        """The bits of each of `contents`, which are binary; null where that is."""
        distinct = contents.unique().drop_nulls()
        get, add = self.bits.get, self.add
        bits = []
        for content in distinct.to_list():
            known = get(content)
            bits.append(add(content) if known is None else known)
        return contents.replace_strict(
            distinct, pl.Series(bits, dtype=pl.Int16), default=None, return_dtype=pl.Int16
        )


def _named(endpoint: Endpoint) -> tuple[str | None, str | None]:
    """Workload and pod; of what has no pod, which of Cilium's own identities it is."""
    namespace, pod = endpoint.namespace, endpoint.pod_name
    workload = endpoint.workloads[0].name if endpoint.workloads else ""
    full_pod = f"{namespace}/{pod}" if namespace and pod else None
    if namespace and workload:
        return f"{namespace}/{workload}", full_pod
    if not pod:
        labels = set(endpoint.labels)
        for name in RESERVED:
            if f"reserved:{name}" in labels:
                return f"reserved:{name}", full_pod
    return None, full_pod
