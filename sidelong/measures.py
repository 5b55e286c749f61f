"""Everything that is measured, in one table: how roles call it, how Prometheus does, what it means.

docs/metrics.md is written from it, and a measure that is not in it is exported nowhere. Names
follow Prometheus' conventions: base units, counters that end in `_total`.
"""

from typing import Final, Literal, NamedTuple

__all__ = ["BUCKETS", "GROUPS", "MEASURES", "PREFIX", "Measure"]

PREFIX: Final = "sidelong_"

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of every histogram, in seconds."""

_ROLE: Final = ("role",)
_PARTITION: Final = ("role", "topic", "partition")
_INCIDENT: Final = ("kind", "severity", "status")
_RECEIVER: Final = ("receiver",)


class Measure(NamedTuple):
    """One measure. Of what differs in labels that it has not, the sum is exported.

    name: as in the counters and gauges of roles. exported: after `sidelong_`.
    """

    name: str
    exported: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = _ROLE

    @property
    def metric(self) -> str:
        """Its whole name in Prometheus."""
        return f"{PREFIX}{self.exported}"


def _counter(name: str, exported: str, meaning: str, labels: tuple[str, ...] = _ROLE) -> Measure:
    return Measure(name, f"{exported}_total", "counter", meaning, labels)


def _gauge(name: str, meaning: str, labels: tuple[str, ...] = _ROLE, exported: str = "") -> Measure:
    return Measure(name, exported or name, "gauge", meaning, labels)


def _histogram(name: str, meaning: str) -> Measure:
    return Measure(name, name, "histogram", meaning)


_READ: Final = (
    _counter("records", "records", "Messages read from Kafka, or batches of a live source."),
    _counter("flows", "flows", "Flows read."),
    _counter("bytes", "read_bytes", "Bytes of the messages that were read."),
    _gauge("lag_records", "Messages that are there and not read yet.", _PARTITION),
    _gauge("lag_seconds", "Age of the next message to read; 0 where there is none.", _PARTITION),
    _gauge(
        "watermark_delay_seconds",
        "How far the clock of the stream, which is that of the flows, is behind the wall's.",
    ),
    _gauge("in_flight_bytes", "Bytes sent to Kafka and not acknowledged yet."),
    _gauge("partitions", "Partitions this process reads."),
    _gauge("active", "1 while the role works, 0 while it stands by for another process."),
    _counter("reconnects", "reconnects", "Times that a live source was connected to again."),
    _counter("rebalances", "rebalances", "Changes of which partitions this process reads."),
    _counter("commits", "commits", "Offsets committed."),
)

_UNSEEN: Final = (
    _counter("lost", "lost_flows", "Flows that are known to have been lost on the way here."),
    _counter("shed", "shed_flows", "Flows left out for want of memory; they count as lost too."),
    _counter("late", "late_flows", "Flows that came too late to be judged at their time."),
    _counter("bad", "bad_rows", "Rows that could not be decoded, and were left out."),
    _counter("dead_lettered", "dead_lettered_records", "Messages that went to a topic .dlq."),
    _counter("duplicates", "duplicates", "What was read a second time, and was dropped."),
    _counter("gaps", "gaps", "Places at which a part of the stream was missing."),
    _counter("stragglers", "stragglers", "Times that a partition was no longer waited for."),
    _counter("evicted", "evicted_rows", "Remembered rows dropped for want of room."),
)

_WORK: Final = (
    _counter("rounds", "rounds", "Stretches of the merged stream that were released at once."),
    _counter("evidence", "evidence_rows", "Rows of evidence found."),
    _counter("incidents", "incidents", "Incidents opened, grown or closed.", _INCIDENT),
    _gauge("open_incidents", "Incidents that are open now."),
    _counter("snapshots", "snapshots", "Snapshots of state written."),
    _gauge("snapshot_bytes", "Size of the last snapshot."),
    _gauge("snapshot_timestamp_seconds", "When the last snapshot was taken; its age is the rest."),
    _histogram("snapshot_seconds", "How long a snapshot took."),
    _histogram("poll_to_send_seconds", "From messages at hand to their results acknowledged."),
    _histogram("source_to_incident_seconds", "From the flow that decides to its incident."),
    _histogram("source_to_webhook_seconds", "From a flow's arrival here to the receiver's answer."),
)

_TOLD: Final = (
    _counter("events", "events", "Changes of incidents that were to be told.", ()),
    _counter("untold", "untold_events", "Changes that nobody is told of, and why.", ("reason",)),
    _counter("delivered", "delivered", "Messages that a receiver took.", _RECEIVER),
    _counter("retried", "retried", "Attempts that failed and will be made again.", _RECEIVER),
    _counter("dead", "dead", "Messages given up; see sidelong alerts list.", _RECEIVER),
    _counter("delivery_seconds", "delivery_seconds", "Time until they were taken.", _RECEIVER),
    _gauge("queued", "Messages in the outbox.", _RECEIVER, "queued_messages"),
    _gauge("dead_letters", "Dead letters that can be redelivered.", _RECEIVER),
    _gauge("oldest_seconds", "Age of the oldest in the outbox.", _RECEIVER, "queue_age_seconds"),
    _gauge("receiver_open", "1 while it is left alone, for it fails.", _RECEIVER, "receiver_down"),
    _gauge("waiting", "Changes that wait for others to be told with.", (), "grouped_events"),
    _gauge("suppressions_expired", "Suppressions that have expired.", ()),
    _counter("reloads", "reloads", "Times that routes and suppressions were read again.", ()),
    _counter("reload_failures", "reload_failures", "Times that they could not be used.", ()),
)

_PROCESS: Final = (
    _counter("restarts", "role_restarts", "Times that a role failed and was begun anew."),
    _gauge("up", "1 while the role works, 0 while it is down.", _ROLE, "role_up"),
    _gauge("stepped", "When the role last moved.", _ROLE, "role_timestamp_seconds"),
    _gauge("ready", "1 if /readyz says yes.", ()),
    _gauge("baseline_timestamp_seconds", "The end of what the baseline was learnt from.", ()),
    _gauge("memory_bytes", "Memory of this process, as the kernel counts it.", ()),
    _gauge("memory_limit_bytes", "memory_megabytes, in bytes.", ()),
    _gauge("intake_paused", "1 while nothing is read, for memory is short.", ()),
    _counter("intake_pauses", "intake_pauses", "Times that reading paused for it.", ()),
    _counter(
        "log_dropped", "log_suppressed", "Messages not logged, as the same had just been.", ()
    ),
    _gauge("build", "1; its label says which version this is.", ("version",), "build_info"),
)

GROUPS: Final = {
    "What is read": _READ,
    "What is not seen": _UNSEEN,
    "What comes of it": _WORK,
    "What is told": _TOLD,
    "The process": _PROCESS,
}
"""All measures, by what they are about."""

MEASURES: Final = tuple(measure for group in GROUPS.values() for measure in group)
