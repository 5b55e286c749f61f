"""Suppressions: incidents that somebody knows about, answers for, and wants to hear no more of.

They are code: files under review, each entry with an owner, a reason and an end. What they keep
back is not deleted: it is detected, listed and counted; it is only told nobody.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Any, Final

import msgspec

from sidelong.alerts.incident import Incident, Kind, Severity, Target
from sidelong.alerts.route_settings import SEVERITIES, several
from sidelong.alerts.settings_files import read_settings
from sidelong.errors import ConfigError

__all__ = ["Match", "Suppression", "Suppressions"]

_REMEMBERED: Final = 10_000


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which incidents a suppression keeps back: all that it says must hold.

    kind: one or several. actor: who, `ops/scanner*`. severity: the worst that is kept back; what is
    worse is told. technique: all techniques of the incident begin so. object (a workload), cidr,
    port, domain: towards what; everything that the incident names must be such.
    """

    kind: Kind | tuple[Kind, ...] = ()
    actor: str | tuple[str, ...] = ()
    severity: Severity | None = None
    technique: str | tuple[str, ...] = ()
    object: str | tuple[str, ...] = ()
    cidr: str | tuple[str, ...] = ()
    port: int | tuple[int, ...] = ()
    domain: str | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not any(getattr(self, name) for name in self.__struct_fields__):
            raise ValueError("it would keep everything back: say at least one thing")
        for network in several(self.cidr):
            ip_network(network)

    def holds(self, incident: Incident) -> bool:
        """Whether an incident is of this kind."""
        if self.kind and incident.kind not in several(self.kind):
            return False
        if self.actor and not _any_glob(incident.actor.workload, self.actor):
            return False
        rank = SEVERITIES.index
        if self.severity and rank(incident.severity) > rank(self.severity):
            return False
        prefixes = several(self.technique)
        if prefixes and not all(name.startswith(prefixes) for name in incident.techniques):
            return False
        if not (self.object or self.cidr or self.port or self.domain):
            return True
        return bool(incident.objects) and all(self._holds_of(one) for one in incident.objects)

    def _holds_of(self, target: Target) -> bool:
        if self.object and not _any_glob(target.workload or "", self.object):
            return False
        if self.cidr and not any(_within(target.ip, network) for network in several(self.cidr)):
            return False
        ports = (self.port,) if isinstance(self.port, int) else self.port
        if ports and target.port not in ports:
            return False
        return not self.domain or _any_glob(target.domain or "", self.domain)


class Suppression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of them. expires: a day, which it still holds on, or a moment; UTC where none is said."""

    id: str
    match: Match
    owner: str
    reason: str
    expires: str

    def __post_init__(self) -> None:
        for name in ("id", "owner", "reason"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty")
        _end(self.expires)

    def is_expired(self, now: float) -> bool:
        """Whether it holds no more, at a moment in seconds of the epoch."""
        return now >= _end(self.expires)


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    suppressions: tuple[Suppression, ...] = ()


class Suppressions:
    """Those in force, and how often each kept something back.

    Errors: ConfigError for two of one id.
    """

    def __init__(self, rules: Sequence[Suppression] = ()) -> None:
        self.rules = tuple(rules)
        self.hits: dict[str, int] = {rule.id: 0 for rule in rules}
        self._hit: dict[tuple[str, str], None] = {}
        if len(self.hits) < len(self.rules):
            ids = [rule.id for rule in rules]
            twice = next(id for id in ids if ids.count(id) > 1)
            raise ConfigError(f"there are two suppressions {twice!r}", hint="rename one of them")

    @classmethod
    def read(cls, paths: Iterable[str]) -> "Suppressions":
        """Those of some files, YAML or TOML. Errors: ConfigError, naming file and place."""
        return cls([rule for path in paths for rule in read_settings(path, _File).suppressions])

    def of(self, incident: Incident, now: float) -> Suppression | None:
        """The suppression that keeps an incident back; None if it is to be told."""
        for rule in self.rules:
            if not rule.is_expired(now) and rule.match.holds(incident):
                return rule
        return None

    def note(self, rule: Suppression, incident: Incident) -> None:
        """Count a hit: once for each incident."""
        if (rule.id, incident.id) in self._hit:
            return
        self._hit[rule.id, incident.id] = None
        self.hits[rule.id] += 1
        if len(self._hit) > _REMEMBERED:
            del self._hit[next(iter(self._hit))]

    def expired(self, now: float) -> list[Suppression]:
        """Those that hold no more, which somebody should prolong or delete."""
        return [rule for rule in self.rules if rule.is_expired(now)]

    def snapshot(self) -> dict[str, Any]:
        """The counts as plain JSON."""
        return {"hits": dict(self.hits), "hit": [list(pair) for pair in self._hit]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on counting from a snapshot, perhaps of other suppressions."""
        self.hits |= {id: count for id, count in state["hits"].items() if id in self.hits}
        self._hit = {(rule, incident): None for rule, incident in state["hit"]}


def _end(expires: str) -> float:
    try:
        moment = datetime.fromisoformat(expires)
    except ValueError:
        raise ValueError(f"expires is {expires!r}, which is no day: write 2027-01-31") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if len(expires) <= len("2027-01-31"):
        moment += timedelta(days=1)
    return moment.timestamp()


def _any_glob(text: str, patterns: str | tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in several(patterns))


def _within(ip: str | None, network: str) -> bool:
    try:
        return ip is not None and ip_address(ip) in ip_network(network)
    except ValueError:
        return False
