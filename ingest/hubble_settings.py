"""What can be set of how Hubble is reached and what is asked of it: the section [hubble]."""

import msgspec

__all__ = ["Filters", "HubbleSettings"]

Filters = tuple[dict[str, str | int | bool | tuple[str | int | bool, ...]], ...]
"""Filters as they come from TOML; what they may say is in `hubble_filters`."""


class HubbleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach Hubble, and what to ask of it.

    ca, cert, key: paths of PEM files; without ca, the usual authorities are trusted; cert and key
    are for servers that want to know their client. server_name: the name in the server's
    certificate, where it differs from the host. since, until: RFC 3339, or how long ago: "5m",
    "1h30m". last, first: so many flows, of each node behind Relay; last is with follow what to
    begin with. follow: go on when those are through. allow, deny: see `hubble_filters`.
    field_mask: what to be sent of each flow, by Hubble's names, and its time and node; () for
    everything; by default, what the decoder reads. fast: whether to decode with ptars; by default,
    if it is installed. max_message_bytes: the largest message that is taken. batch_rows,
    batch_milliseconds: flows are handed on when there are so many of them, or the first is so old.
    queue_rows, queue_bytes: how much may wait for what comes after; beyond that Hubble is not read.
    connect_seconds: how long to try at first; a source that has once worked is tried for ever.
    reconnect_seconds: the longest pause between two attempts then.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    since: str | None = None
    until: str | None = None
    last: int | None = None
    first: int | None = None
    follow: bool = True
    allow: Filters = ()
    deny: Filters = ()
    field_mask: tuple[str, ...] | None = None
    fast: bool | None = None
    max_message_bytes: int = 16 << 20
    batch_rows: int = 10_000
    batch_milliseconds: int = 250
    queue_rows: int = 40_000
    queue_bytes: int = 64 << 20
    connect_seconds: float = 5.0
    reconnect_seconds: float = 30.0
