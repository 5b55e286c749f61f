"""What can be set of how messages of a topic are read."""

from typing import Annotated, Final, Literal, get_args

import msgspec

__all__ = ["AUTO", "MESSAGE_FORMATS", "MessageFormat", "MessageSettings"]

AUTO: Final = "auto"

MessageFormat = Literal[
    "auto",
    "hubble",
    "hubble-protobuf",
    "otlp-json",
    "otlp-protobuf",
    "netobserv",
    "netobserv-protobuf",
    "goflow2",
    "goflow2-protobuf",
    "envoy",
    "envoy-json",
    "linkerd",
    "linkerd-json",
    "ztunnel",
    "ztunnel-json",
    "zeek",
    "nfdump",
    "vpc",
    "csv",
    "pcap",
    "arrow",
    "parquet",
]

MESSAGE_FORMATS: Final[tuple[str, ...]] = get_args(MessageFormat)
"""What a message may be declared to be."""

_Count = Annotated[int, msgspec.Meta(ge=1)]


class MessageSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section [messages].

    formats: by topic, what its messages are; each message is looked at for itself where its topic
    is not named. most_megabytes: how large a message may be once it is unpacked. most_records: how
    many lines, rows or messages inside may be in one.
    """

    formats: dict[str, MessageFormat] = {}
    most_megabytes: _Count = 64
    most_records: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 1 << 17
