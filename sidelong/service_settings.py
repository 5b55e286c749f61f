"""What can be set of `sidelong run`: the section [service]."""

from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec

__all__ = ["ROLES", "RoleName", "ServiceSettings"]

RoleName = Literal["collect", "normalise", "detect", "correlate", "deliver"]

ROLES: Final[tuple[RoleName, ...]] = get_args(RoleName)
"""In the order of a flow."""


_Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a process of the service does, what it keeps, and where it can be watched.

    roles: what this process does of the service: all of it, or a part that others complete over
    Kafka. inputs: live sources and files that `collect` reads, and the whole service where there is
    no Kafka. baseline: the folder or the model store that `sidelong learn` wrote. pods: who held
    which address. kubernetes: ask Kubernetes instead. state: where snapshots are kept, a folder or
    a URL such as s3://bucket/sidelong; processes that share a role share it. snapshot_seconds: how
    often one is taken; after a crash so much is read again. merge_wait_ms: how long rows of a
    partition wait for those of others that are silent. straggler_seconds: after so long a
    partition that is behind is no longer waited for when incidents are made. memory_megabytes: how
    much memory this process may have: above 90 % of it nothing more is read, above all of it what
    a source sends that cannot wait is left out, and counted as lost. listen: address of /metrics,
    /healthz and /readyz, "" for none. stuck_seconds: a role that has not moved for so long is not
    alive. ready_seconds: a process that is further behind is not ready. log: text for people, json
    for machines. drain_seconds: how long an end by SIGTERM may take. member: a name for this
    process that stays over restarts and that no other has, so that it gets its partitions back
    without the others having to stop.
    """

    roles: tuple[RoleName, ...] = ROLES
    inputs: tuple[str, ...] = ()
    baseline: str | None = None
    pods: str | None = None
    kubernetes: bool = False
    state: str = "state"
    snapshot_seconds: _Seconds = 30.0
    merge_wait_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 100
    straggler_seconds: _Seconds = 60.0
    memory_megabytes: Annotated[int, msgspec.Meta(ge=256)] = 512
    listen: str = "127.0.0.1:9464"
    stuck_seconds: _Seconds = 60.0
    ready_seconds: _Seconds = 30.0
    log: Literal["text", "json"] = "text"
    drain_seconds: _Seconds = 20.0
    member: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,200}$")] | None = None

    def __post_init__(self) -> None:
        if not self.roles:
            raise ValueError(f"roles is empty, but must be some of {', '.join(ROLES)}")
        if len(set(self.roles)) < len(self.roles):
            raise ValueError("roles names one twice")
        if self.kubernetes and self.pods is not None:
            raise ValueError("pods and kubernetes exclude each other")
        if not self.state.strip():
            raise ValueError("state is empty, but names a folder or a URL")
