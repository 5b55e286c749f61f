"""What a Service of Kubernetes goes by: the workload behind it, when there is just one."""

from typing import Final

from sidelong.ingest.holdings import Holding
from sidelong.ingest.kubernetes_objects import API_SERVER, EndpointSlice, Service

__all__ = ["Services"]

_SPANS: Final = 8


class _Known:
    """A Service with the names it had, each from when on; the oldest names go beyond a few."""

    __slots__ = ("addresses", "settled", "spans", "thing")

    def __init__(self, thing: Service, addresses: list[str]) -> None:
        self.thing = thing
        self.addresses = addresses
        self.settled = thing.full_name == "default/kubernetes"
        own = API_SERVER if self.settled else thing.full_name
        self.spans = [(thing.metadata.created, own)]

    def holdings(self) -> list[Holding]:
        """Its addresses under its names."""
        ends = [*(since for since, _ in self.spans[1:]), self.thing.ended]
        return [
            Holding(ip, name, *_parts(name), None, since, until)
            for ip in self.addresses
            for (since, name), until in zip(self.spans, ends, strict=True)
        ]


def _parts(name: str) -> tuple[str | None, str | None]:
    """Namespace and workload; nothing for a reserved name."""
    namespace, slash, workload = name.partition("/")
    return (namespace, workload) if slash else (None, None)


class _Part:
    """What one slice says: the pods behind the Service, whether anything else is, since when."""

    __slots__ = ("changed", "elsewhere", "pods", "service")

    def __init__(self, part: EndpointSlice) -> None:
        self.service = part.service
        self.pods = part.pods
        self.elsewhere = bool(part.elsewhere)
        self.changed = part.changed


class Services:
    """Services, their slices and the workloads of the pods in these; not safe for threads."""

    def __init__(self) -> None:
        self._services: Final[dict[str, _Known]] = {}
        self._parts: Final[dict[tuple[str, str], _Part]] = {}
        self._of_service: Final[dict[str, set[tuple[str, str]]]] = {}
        self._workloads: Final[dict[str, tuple[str, int]]] = {}
        self._unsettled: Final[dict[str, None]] = {}

    def put(self, service: Service, addresses: list[str]) -> list[Holding]:
        """Take in a Service; what it holds as far as is known."""
        name = service.full_name
        known = self._services.get(name)
        if known is None or known.thing.key != service.key:
            known = self._services[name] = _Known(service, addresses)
        known.thing, known.addresses = service, addresses
        self._unsettled[name] = None
        return known.holdings()

    def put_slice(self, part: EndpointSlice) -> None:
        """Take in a slice of endpoints."""
        self._forget_slice(part.key)
        if part.service:
            self._parts[part.key] = _Part(part)
            self._of_service.setdefault(part.service, set()).add(part.key)
            self._unsettled[part.service] = None

    def pod_is(self, pod: str, workload: str, number: int) -> None:
        """Take note of the workload of a pod, which is entry `number` of the ledger."""
        known = self._workloads.get(pod)
        if known != (workload, number):
            self._workloads[pod] = workload, number
            if known and known[0] != workload:  # rare: an owner that misled
                self._unsettled.update(dict.fromkeys(self._services))

    def drop(self, key: tuple[str, str], pod: str, number: int) -> None:
        """Forget an object, which may be any."""
        if pod and self._workloads.get(pod, ("", 0))[1] == number:
            del self._workloads[pod]
        self._forget_slice(key)
        if key[0] == Service.kind:
            for name in [n for n, known in self._services.items() if known.thing.key == key]:
                del self._services[name]

    def settle(self, now: int) -> list[tuple[tuple[str, str], list[Holding]]]:
        """The Services whose name has changed, by key, with all that they hold and held.

        A pod that is not known yet leaves its Service as it is, until it is.
        """
        found = []
        for name in list(self._unsettled):
            known = self._services.get(name)
            if known is None or name == "default/kubernetes":
                del self._unsettled[name]
                continue
            parts = [self._parts[key] for key in self._of_service.get(name, ())]
            pods = {pod for part in parts for pod in part.pods}
            if not all(pod in self._workloads for pod in pods):
                continue
            del self._unsettled[name]
            workloads = {self._workloads[pod][0] for pod in pods}
            elsewhere = any(part.elsewhere for part in parts)
            if not workloads and not elsewhere:
                continue
            only = workloads.pop() if len(workloads) == 1 and not elsewhere else name
            if only == known.spans[-1][1]:
                known.settled = True
                continue
            if known.settled:
                changed = [part.changed for part in parts if part.changed is not None]
                since = max(max(changed, default=now), known.spans[-1][0] or 0)
                known.spans = [*known.spans, (since, only)][-_SPANS:]
            else:  # it had nothing behind it so far, so it was called for this one from the start
                known.spans = [(known.thing.metadata.created, only)]
                known.settled = True
            found.append((known.thing.key, known.holdings()))
        return found

    def _forget_slice(self, key: tuple[str, str]) -> None:
        part = self._parts.pop(key, None)
        if part and part.service:
            rest = self._of_service[part.service]
            rest.discard(key)
            if not rest:
                del self._of_service[part.service]
            self._unsettled[part.service] = None
