"""Hubble's protobuf to flows: serialized `GetFlowsResponse` or `ExportEvent` messages, in bulk.

There are two ways, and they give the same rows. With the extra `fast`, ptars turns a whole batch
into columns in Rust; where that is not installed, and for a batch with a message in it that cannot
be parsed, protobuf reads message by message.

Sources: `observer/observer.proto` and `flow/flow.proto` of Cilium 1.19.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from sidelong.errors import ConfigError
from sidelong.ingest.hubble_columns import faults_of, rows_of
from sidelong.ingest.hubble_endpoints import EndpointTable, FlagTable
from sidelong.ingest.hubble_flows import flows_of
from sidelong.ingest.hubble_messages import Messages, NodeStatus, read_each
from sidelong.ingest.source import BadRows

__all__ = ["Decoded", "HubbleDecoder", "NodeStatus", "split_delimited"]

_SAMPLES: Final = 5
_LONGEST_VARINT: Final = 5


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a batch of messages says.

    rows: the flows and losses in the order of the messages, with the columns of `FLOW_SCHEMA` that
    Hubble knows and `message` (its index), `uuid`, `event_type` and `sub_type`. bad: what was left
    out. statuses: what Relay said of its nodes. faults: which messages were left out and why, the
    first few of them.
    """

    rows: pl.DataFrame
    bad: BadRows
    statuses: tuple[NodeStatus, ...]
    faults: tuple[tuple[int, str], ...] = ()

    def flows(self) -> pl.DataFrame:
        """The rows in `FLOW_SCHEMA`."""
        return flows_of(self.rows)


class HubbleDecoder:
    """Decodes batches of messages; remembers the endpoints it has seen, so keep one per stream.

    name: for the samples of bad rows. fast: whether to use ptars; by default, if it is there.
    Errors: ConfigError when it is asked for and is not.
    """

    def __init__(self, name: str, *, fast: bool | None = None) -> None:
        self._name = name
        self._endpoints = EndpointTable()
        self._flags = FlagTable()
        self._read_all: Callable[[Sequence[bytes]], Messages] | None = None
        there = importlib.util.find_spec("ptars") is not None
        if fast and not there:
            raise ConfigError(
                "hubble.fast is set, but ptars is not installed",
                hint="pip install 'sidelong[fast]', or leave fast out",
            )
        if there and fast is not False:
            from sidelong.ingest.hubble_arrow import ArrowReader

            self._read_all = ArrowReader(self._endpoints, self._flags).read

    @property
    def way(self) -> str:
        """Which of the two ways it is: "ptars" or "protobuf"."""
        return "ptars" if self._read_all else "protobuf"

    def decode(
        self, messages: Sequence[bytes], first: int = 0, most_faults: int = _SAMPLES
    ) -> Decoded:
        """The flows, losses and statuses in `messages`; what cannot be read is counted in `bad`.

        first: the number of the first message, for the samples. most_faults: how many of the bad
        ones are explained.
        """
        self._endpoints.tidy()
        read = self._read(messages)
        rows = rows_of(read.messages, read.layer7, self._endpoints)
        good = rows.filter("readable")
        count = len(read.unparsed) + len(messages) - len(read.unparsed) - good.height - read.silent
        bad = BadRows()
        faults: list[tuple[int, str]] = []
        if count:
            unparsed = read.unparsed[:most_faults]
            faults = [(number, "not protobuf of Hubble") for number in unparsed]
            faults = sorted(faults + faults_of(read.messages, most_faults))[:most_faults]
            bad = BadRows(
                count,
                tuple(
                    f"{self._name} at message {first + number:,}: {why}"
                    for number, why in faults[:_SAMPLES]
                ),
            )
        return Decoded(good, bad, read.statuses, tuple(faults))

    def _read(self, messages: Sequence[bytes]) -> Messages:
        if self._read_all:
            try:
                return self._read_all(messages)
            except ValueError:  # one message spoils it for all: each for itself, then
                pass
        return read_each(messages, self._endpoints, self._flags)


def split_delimited(content: bytes, longest: int) -> tuple[list[bytes], int, str | None]:
    """The messages in `content`, each after its length as a varint; how far they go; the damage.

    What follows the last whole message is left to the next call. The damage is None, or why
    nothing after that point can be read: a length above `longest`, or one that is no varint.
    """
    messages: list[bytes] = []
    at, end = 0, len(content)
    while at < end:
        size = shift = 0
        start = at
        while start < end:
            byte = content[start]
            size |= (byte & 0x7F) << shift
            shift += 7
            start += 1
            if byte < 0x80:
                break
            if shift >= 7 * _LONGEST_VARINT:
                return messages, at, "a length is no varint of 32 bits"
        else:
            break
        if size > longest:
            return messages, at, f"a message is {size:,} bytes long"
        if start + size > end:
            break
        messages.append(content[start : start + size])
        at = start + size
    return messages, at, None
