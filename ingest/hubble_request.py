"""What is asked of Hubble: which flows, from when on, and which of their fields."""

import logging
from typing import Final

from sidelong.ingest.hubble_filters import flow_filters
from sidelong.ingest.hubble_pb2 import FieldMask, GetFlowsRequest, Time
from sidelong.ingest.hubble_settings import HubbleSettings
from sidelong.ingest.hubble_times import moment

__all__ = ["FIELD_MASK", "Request"]

_log: Final = logging.getLogger(__name__)

_SECOND: Final = 1_000_000_000

# The envelope's time and node are taken from the masked flow: without these two Relay cannot sort.
_ENVELOPE: Final = ("time", "node_name")

# Whole l4 and l7: of paths inside of a choice, Hubble fills in the last, whichever was chosen.
FIELD_MASK: Final = (
    "time",
    "node_name",
    "uuid",
    "verdict",
    "drop_reason",
    "drop_reason_desc",
    "IP",
    "l4",
    "l7",
    *(
        f"{end}.{name}"
        for end in ("source", "destination")
        for name in ("namespace", "labels", "pod_name", "workloads")
    ),
    "reply",
    "is_reply",
    "event_type",
    "egress_allowed_by",
    "ingress_allowed_by",
    "egress_denied_by",
    "ingress_denied_by",
)
"""What `hubble_protobuf` reads of a flow."""


class Request:
    """GetFlows as the settings have it, at first and when it is taken up again.

    now_ns: to which "5m ago" refers. Errors: ConfigError for times and filters that cannot be.
    """

    def __init__(self, settings: HubbleSettings, now_ns: int) -> None:
        self._settings = settings
        self._mask = FIELD_MASK if settings.field_mask is None else settings.field_mask
        if self._mask:
            self._mask += tuple(name for name in _ENVELOPE if name not in self._mask)
        self._since = moment("since", settings.since, now_ns) if settings.since else None
        self._until = moment("until", settings.until, now_ns) if settings.until else None
        self._allow = flow_filters("allow", settings.allow)
        self._deny = flow_filters("deny", settings.deny)
        self._not_before = 0

    @property
    def finite(self) -> bool:
        """Whether its proper end is the end."""
        return not self._settings.follow or self._until is not None

    @property
    def cannot_resume(self) -> bool:
        """Whether it asks for a number from the start, which the rest of cannot be asked for."""
        return self._settings.first is not None

    def content(self, since: int | None) -> bytes:
        """The request, serialized; since: ns from when on it is to be taken up again."""
        settings = self._settings
        request = GetFlowsRequest(
            follow=settings.follow, whitelist=self._allow, blacklist=self._deny
        )
        if self._mask:
            request.field_mask.CopyFrom(FieldMask(paths=self._mask))
        if since is None:
            since = self._since
            request.number = settings.last or settings.first or 0
            request.first = settings.first is not None
        if since is not None:
            request.since.CopyFrom(_time(max(since, self._not_before)))
        if self._until is not None:
            request.until.CopyFrom(_time(self._until))
        return request.SerializeToString()

    def without_mask(self, words: str) -> bool:
        """Ask for whole flows, if what was said is that the server does not know a field of ours.

        An older one does not. A mask that the user set is left as it is.
        """
        if "fieldmask" not in words or self._settings.field_mask is not None or not self._mask:
            return False
        _log.warning("hubble: the server does not know all fields; asking for whole flows")
        self._mask = ()
        return True

    def skip(self, now_ns: int) -> bool:
        """Take it up from now on, so that what cannot be received is left out; if that can be."""
        if not self._settings.follow:
            return False
        self._not_before = now_ns
        return True


def _time(ns: int) -> Time:
    return Time(seconds=ns // _SECOND, nanos=ns % _SECOND)
