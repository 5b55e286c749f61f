"""Identity at run time: a watch on the Kubernetes API that feeds the pod map.

Each resource is listed once and then followed, in a thread of its own. A watch that ends goes on
where it was, one that the server can no longer continue is begun with a new list, and a server that
is away is asked again, at growing intervals. Whoever held an address before stays known for a
while, so a flow that comes late is still attributed by its own time.

    with watch_kubernetes(settings) as pods:
        pipeline = Pipeline(baseline, pods=pods)
"""

import random
import time
from collections.abc import Callable
from threading import Condition, Event, Lock, Thread
from typing import Final

import msgspec

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.kubernetes_api import (
    OPENED,
    RESOURCES,
    ApiBroken,
    ApiGarbled,
    ApiGone,
    ApiRefused,
    ApiServer,
    ApiUntrusted,
    Resource,
)
from sidelong.ingest.kubernetes_ledger import KINDS, Ledger
from sidelong.ingest.kubernetes_login import KubernetesSettings
from sidelong.ingest.kubernetes_objects import Thing
from sidelong.ingest.podmap import PodMap

__all__ = ["KubernetesWatch", "watch_kubernetes"]

_PATIENCE: Final = 3  # a server that is starting may turn down what it grants a moment later
_REFUSED_PAUSE: Final = 300.0
_FIRST_PAUSE: Final = 0.25
_HASTY_SECONDS: Final = 0.5
_STEADY_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 2.0


def watch_kubernetes(
    settings: KubernetesSettings = KubernetesSettings(),  # noqa: B008, a frozen value
    *,
    say: Callable[[str], None] = lambda _: None,
    now_ns: Callable[[], int] = time.time_ns,
) -> "KubernetesWatch":
    """A watch that has seen all pods there are; close it, or use it as a context.

    say: told what a person should know, from another thread: what may not be watched, and when the
    server is lost and found. now_ns: the clock. Errors: ConfigError when no cluster is named;
    SourceError, naming the server, when it cannot be reached, or does not let pods be watched.
    """
    watch = KubernetesWatch(ApiServer(settings), settings, say, now_ns)
    try:
        watch.start()
    except BaseException:
        watch.close()
        raise
    return watch


class _Progress:
    """How far the watch of one resource has come; of its own thread, except for `settled`."""

    def __init__(self, resource: Resource) -> None:
        self.resource: Final = resource
        self.version: str | None = None
        self.settled = False  # listed, or known not to be allowed
        self.away = True
        self.failures = 0
        self.refusals = 0
        self.told: set[str] = set()
        self.problem = "it did not answer"


class KubernetesWatch:
    """The pod map of a cluster, always the newest (`PodMaps`)."""

    def __init__(
        self,
        api: ApiServer,
        settings: KubernetesSettings,
        say: Callable[[str], None],
        now_ns: Callable[[], int],
    ) -> None:
        self._api: Final = api
        self._settings: Final = settings
        self._say: Final = say
        keep_ns = int(settings.keep_ended_seconds * 1e9)
        self._ledger: Final = Ledger(keep_ns=keep_ns, ended=settings.keep_ended, now_ns=now_ns)
        self._stop: Final = Event()
        self._changed: Final = Condition()
        self._fatal: SourceError | None = None
        self._lock: Final = Lock()
        self._frame = self._ledger.holders()
        self._map = PodMap(self._frame)
        self._counts: Final[dict[str, int]] = {
            name: 0 for name in ("events", "bad_events", "reconnects", "relists", "faults")
        }
        self._progress: Final = [_Progress(resource) for resource in RESOURCES]
        self.threads: Final = [
            Thread(target=self._follow, args=(at,), name=f"watch {at.resource.name}", daemon=True)
            for at in self._progress
        ]

    def __enter__(self) -> "KubernetesWatch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to watch, and wait until everything is listed. Errors: SourceError."""
        for thread in self.threads:
            thread.start()
        deadline = time.monotonic() + self._settings.sync_timeout_seconds
        with self._changed:
            self._changed.wait_for(
                lambda: self._fatal or all(at.settled for at in self._progress),
                timeout=max(0.0, deadline - time.monotonic()),
            )
            if self._fatal:
                raise self._fatal
            late = [at for at in self._progress if not at.settled]
        if late:
            missing = ", ".join(at.resource.name for at in late)
            raise SourceError(
                f"{self._api.name} did not list its {missing} within"
                f" {self._settings.sync_timeout_seconds:g} s: {late[0].problem}",
                hint="check that it can be reached from here: kubectl get pods -A",
            )

    def current(self) -> PodMap:
        """The pod map of the moment."""
        with self._lock:
            frame = self._ledger.holders()
            if frame is not self._frame:
                self._frame, self._map = frame, PodMap(frame)
            return self._map

    def counters(self) -> dict[str, int]:
        """What has happened so far.

        events and bad_events came over the watches, reconnects and relists began them anew; objects
        are known now, ended are remembered, evicted and left_out found no room; away counts the
        resources that cannot be followed at the moment; faults are errors of this program.
        """
        away = sum(at.away for at in self._progress)
        return {**self._counts, **self._ledger.counters(), "away": away}

    def close(self) -> None:
        """Stop watching; takes two seconds at most."""
        self._stop.set()
        self._api.close()
        deadline = time.monotonic() + _CLOSE_SECONDS
        for thread in self.threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _follow(self, at: _Progress) -> None:
        """The life of one thread: list, watch, and go on after whatever ended the watch."""
        while not self._stop.is_set():
            pause: float | None = None
            began = time.monotonic()
            try:
                if at.version is None:
                    self._list(at)
                began = time.monotonic()
                self._watch(at)
                if time.monotonic() - began < _HASTY_SECONDS:
                    self._failed(at, began, "it ended a watch at once")
                else:
                    at.failures = 0
            except ApiGone:
                at.version = None
                self._count("relists")
                self._failed(at, began, "it no longer knows what happened")
            except ApiRefused as refusal:
                self._failed(at, began, str(refusal))
                pause = self._refused(at, refusal)
            except ApiBroken as error:
                self._count("reconnects")
                self._failed(at, began, str(error))
                self._broken(at, error)
            except Exception as error:
                # Nothing but an error of ours ends here. Names must not go stale for it.
                at.version = None
                self._count("faults")
                self._failed(at, began, f"{type(error).__name__} in sidelong")
                self._tell(at, at.problem, at.problem)
            self._stop.wait(self._pause(at) if pause is None else pause)

    def _failed(self, at: _Progress, began: float, problem: str) -> None:
        steady = time.monotonic() - began > _STEADY_SECONDS
        at.failures = 1 if steady else at.failures + 1
        at.away, at.problem = True, problem
        if at.resource is RESOURCES[0] and at.settled and at.failures == _PATIENCE:
            self._tell(at, "lost", f"it is away, so names grow old: {problem}")

    def _list(self, at: _Progress) -> None:
        resource = at.resource
        keys: set[tuple[str, str]] = set()
        version = ""
        for page in self._api.pages(resource):
            for raw in page.items or ():
                thing = self._decoded(at, raw)
                if thing is not None and self._put(at, thing, deleted=False):
                    keys.add(thing.key)
            version = page.metadata.version
        self._ledger.keep_only(resource.kind, keys)
        at.version = version
        self._settle(at)

    def _watch(self, at: _Progress) -> None:
        for kind, raw in self._api.events(at.resource, at.version or ""):
            if kind == OPENED:
                self._found(at)
                continue
            if kind in ("ADDED", "MODIFIED", "DELETED"):
                self._count("events")
                thing = self._decoded(at, raw)
                if thing is not None:
                    self._put(at, thing, deleted=kind == "DELETED")
            try:
                at.version = msgspec.json.decode(raw, type=Thing).metadata.resource_version
            except msgspec.DecodeError:
                self._bad(at, "an event has no version")
            at.failures = at.refusals = 0

    def _decoded(self, at: _Progress, raw: msgspec.Raw) -> Thing | None:
        try:
            return msgspec.json.decode(raw, type=KINDS[at.resource.kind])
        except (msgspec.DecodeError, ValueError) as error:
            self._bad(at, str(error))
            return None

    def _put(self, at: _Progress, thing: Thing, *, deleted: bool) -> bool:
        try:
            (self._ledger.drop if deleted else self._ledger.put)(thing)
        except ValueError as error:
            self._bad(at, f"{thing.full_name}: {error}")
            return False
        return True

    def _bad(self, at: _Progress, why: str) -> None:
        self._count("bad_events")
        self._tell(
            at, "bad", f"one of its {at.resource.name} cannot be read, and maybe more: {why}"
        )

    def _found(self, at: _Progress) -> None:
        at.away = False
        if "lost" in at.told:
            at.told.discard("lost")
            self._say(f"{self._api.name}: it is back")

    def _settle(self, at: _Progress) -> None:
        with self._changed:
            at.settled = True
            self._changed.notify_all()

    def _broken(self, at: _Progress, error: ApiBroken) -> None:
        if isinstance(error, ApiGarbled) and at.failures > _PATIENCE:
            at.version = None  # a list leaves behind what cannot be read
        if isinstance(error, ApiUntrusted):
            self._give_up(
                f"{self._api.name} is not the server it should be: {error}",
                "check certificate-authority in the kubeconfig",
            )

    def _refused(self, at: _Progress, refusal: ApiRefused) -> float | None:
        """Take note of a no; returns for how long to live with it, if that is known."""
        if refusal.status == 401:
            try:
                self._api.renew()
            except ConfigError as error:
                at.problem = error.problem
        if refusal.status not in (401, 403, 404):
            return None if refusal.retry_after is None else min(refusal.retry_after, 60.0)
        at.refusals += 1
        if at.refusals < _PATIENCE:
            return None
        if at.resource is RESOURCES[0] or refusal.status == 401:
            self._give_up(
                f"{self._api.name} does not let {at.resource.name} be listed and watched:"
                f" {at.problem}",
                "grant the ClusterRole in docs/kubernetes.md, or check the credentials",
            )
            return None
        name, without = at.resource.name, at.resource.without
        self._tell(at, "refused", f"it does not let {name} be watched ({refusal}): {without}")
        self._settle(at)
        at.version = None
        return _REFUSED_PAUSE

    def _give_up(self, problem: str, hint: str) -> None:
        """What will not get better by waiting ends the start; later it is only tried again."""
        with self._changed:
            if not all(at.settled for at in self._progress):
                self._fatal = self._fatal or SourceError(problem, hint=hint)
            self._changed.notify_all()

    def _pause(self, at: _Progress) -> float:
        if not at.failures:
            return 0.0
        longest = min(self._settings.retry_seconds, _FIRST_PAUSE * 2.0 ** min(at.failures - 1, 16))
        return longest * random.uniform(0.5, 1.0)

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _tell(self, at: _Progress, what: str, text: str) -> None:
        """Say something once per resource."""
        if what not in at.told:
            at.told.add(what)
            self._say(f"{self._api.name}: {text}")
