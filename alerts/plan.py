"""The plan: routes, mute times and suppressions together, read and checked as one."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from sidelong.alerts.incident import Incident
from sidelong.alerts.mute_times import MuteTimes
from sidelong.alerts.route_settings import AlertSettings
from sidelong.alerts.routes import Route, Routes, with_route_file
from sidelong.alerts.suppressions import Suppression, Suppressions

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of incidents, as of when its files were read."""

    routes: Routes
    mute: MuteTimes
    suppressions: Suppressions
    labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, settings: AlertSettings, receivers: Collection[str]) -> "Plan":
        """The plan of some settings and the files they name.

        Errors: ConfigError for whatever cannot work; nothing is half read.
        """
        whole = with_route_file(settings)
        mute = MuteTimes(whole.mute)
        return cls(
            routes=Routes(whole, receivers, mute.names),
            mute=mute,
            suppressions=Suppressions.read(whole.suppressions),
            labels=dict(whole.labels),
        )

    @staticmethod
    def files(settings: AlertSettings) -> Iterator[str]:
        """The files that `read` reads."""
        if settings.routes is not None:
            yield settings.routes
        yield from settings.suppressions

    def of(self, incident: Incident, now: float) -> tuple[list[Route], Suppression | None]:
        """The routes that take an incident, and what keeps it back nevertheless."""
        return self.routes.of(incident), self.suppressions.of(incident, now)

    def warnings(self, now: float) -> list[str]:
        """What is allowed and hardly meant: expired suppressions, routes that nothing reaches."""
        expired = [
            f"the suppression {rule.id!r} has expired ({rule.expires}) and keeps nothing back; "
            f"{rule.owner} should prolong or delete it"
            for rule in self.suppressions.expired(now)
        ]
        return [*self.routes.warnings, *expired]
