"""What people said about incidents, kept beside a baseline and heeded whenever it is loaded.

The baseline stays as it was learnt; `feedback.json` in its folder adds to it, takes away from it,
and survives when the baseline is learnt anew. It is short, sorted and made to be read and edited.
"""

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from sidelong.errors import ConfigError
from sidelong.features.sides import DYNAMIC_PORT
from sidelong.ingest.schema import PROTOCOLS, schema_of

__all__ = ["EDGES_SCHEMA", "FILE_NAME", "Allowance", "Edge", "Feedback", "Scanner", "edge_rows"]

FILE_NAME: Final = "feedback.json"

_PROTOCOLS: Final = ("TCP", "UDP")  # an incident does not tell which of them it was

EDGES_SCHEMA: Final = schema_of(
    {
        "actor": pl.String,
        "peer": pl.String,
        "object": pl.String,
        "port": pl.UInt16,
        "edge_port": pl.UInt16,
        "protocol": PROTOCOLS,
    }
)


class Edge(msgspec.Struct, frozen=True, kw_only=True, order=True, forbid_unknown_fields=True):
    """From whom to what; `ip` where the peer has no other identity. `incident`: who says so."""

    actor: str
    peer: str
    port: int
    ip: str | None = None
    incident: str = ""


class Allowance(msgspec.Struct, frozen=True, kw_only=True, order=True, forbid_unknown_fields=True):
    """How many bytes of never-seen names an actor may bring to a registered domain, in how many
    seconds."""

    actor: str
    domain: str
    bytes: int = 0
    seconds: int = 0
    incident: str = ""


class Scanner(msgspec.Struct, frozen=True, kw_only=True, order=True, forbid_unknown_fields=True):
    """An actor whose business scanning is, until a moment."""

    actor: str
    until: datetime
    incident: str = ""

    def __post_init__(self) -> None:
        if self.until.tzinfo is None:
            raise ValueError(f"until is {self.until.isoformat()}, which names no time zone")


class Feedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is ordinary although it was not learnt, and what is not although it was.

    known_edges are as if learnt; to allowed_domains twice the bytes may be said at once, and more
    as fast as before; scanners open no incident by scanning. forbidden_edges alarm at once and are
    never known; forbidden_domains alarm on the first never-seen name.
    """

    format: int = 1
    known_edges: tuple[Edge, ...] = ()
    allowed_domains: tuple[Allowance, ...] = ()
    scanners: tuple[Scanner, ...] = ()
    forbidden_edges: tuple[Edge, ...] = ()
    forbidden_domains: tuple[Allowance, ...] = ()

    @classmethod
    def read(cls, baseline: Path) -> "Feedback":
        """What is in the folder of a baseline; nothing if nobody said anything.

        Errors: ConfigError for a file that cannot be used.
        """
        path = baseline / FILE_NAME
        try:
            said = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return cls()
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"{path}: {error}", hint="mend it, or move it away") from error
        if said.format != 1:
            raise ConfigError(
                f"{path} has format {said.format}, but this version reads 1", hint="move it away"
            )
        return said

    def save(self, baseline: Path) -> None:
        """Write it into the folder of a baseline, whole or not at all."""
        plain = msgspec.json.format(msgspec.json.encode(self), indent=2)
        part = baseline / f".{FILE_NAME}"
        with part.open("wb") as file:
            file.write(plain + b"\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(baseline / FILE_NAME)

    def scanning(self) -> pl.DataFrame:
        """`actor` and `until` (UTC, nanoseconds), each declared scanner once."""
        until: dict[str, datetime] = {}
        for one in self.scanners:
            until[one.actor] = max(one.until, until.get(one.actor, one.until))
        return pl.DataFrame(
            {"actor": list(until), "until": list(until.values())},
            schema={"actor": pl.String, "until": pl.Datetime("ns", "UTC")},
        )


def edge_rows(edges: Iterable[Edge]) -> pl.DataFrame:
    """Edges in `EDGES_SCHEMA`, for both protocols that have ports."""
    rows = [
        (
            edge.actor,
            edge.peer,
            edge.ip if edge.ip and edge.peer.startswith(("ip:", "world:")) else edge.peer,
            edge.port,
            edge.port if edge.port < DYNAMIC_PORT else 0,
            protocol,
        )
        for edge in edges
        for protocol in _PROTOCOLS
    ]
    return pl.DataFrame(rows, schema=EDGES_SCHEMA, orient="row")
