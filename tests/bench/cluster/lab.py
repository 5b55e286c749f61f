"""A small cluster of network namespaces on this machine: pods, a router, and a tap in it.

Every pod has an address of its own on a wire to the router, as Calico lays them, and no way out of
the lab: the router has no other link. So what runs here can reach nothing but pods, and nothing
real can be reached by mistake. Needs root, iproute2 and dumpcap.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["PROGRAMS", "Lab", "LabError", "Pod", "unavailable"]

HERE: Final = Path(__file__).resolve().parent
GATEWAY: Final = "169.254.1.1"
PODS: Final = "10.244.0.0/16"
PROGRAMS: Final = {
    "curl": "curl",
    "dns2tcpc": "dns2tcp",
    "dumpcap": "wireshark-common",
    "iodine": "iodine",
    "ip": "iproute2",
    "masscan": "masscan",
    "nmap": "nmap",
    "sysctl": "procps",
}
"""What the lab runs, and which package of Debian brings it."""

_SNAP: Final = "256"  # octets of a packet; lengths stay those of the wire
_STOP_SECONDS: Final = 5


class LabError(Exception):
    """Something of the lab cannot be had, or did not do as it was told."""


def unavailable() -> str | None:
    """Why there can be no lab here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{', '.join(missing)} not found" if missing else None


@dataclass
class Pod:
    """A network namespace with one address, and what runs in it."""

    name: str
    ip: str
    namespace: str
    workload: str
    netns: str
    gateway_mac: str
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def identity(self) -> str:
        """What sidelong calls it."""
        return f"{self.namespace}/{self.workload}"


class Lab:
    """Pods can be added and killed at any time; all of it is gone when the lab is left.

    folder: where `traffic.pcap`, `pods.json` and the output of what runs are written. tag: makes
    the names of namespaces this lab's own.
    """

    def __init__(self, folder: Path, tag: str) -> None:
        self.folder = folder
        self.pods: dict[str, Pod] = {}
        self._tag = tag
        self._router = f"{tag}-router"
        self._number = 0
        self._tap: subprocess.Popen[bytes] | None = None
        self._known: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        ip("netns", "add", self._router)
        self._in_router("ip", "link", "set", "lo", "up")
        self._in_router("ip", "addr", "add", f"{GATEWAY}/32", "dev", "lo")
        # What belongs to no pod is dropped without a word.
        self._in_router("ip", "route", "add", "blackhole", PODS)
        for setting in ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"):
            self._in_router("sysctl", "-q", "-w", setting)
        self._listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pod in list(self.pods.values()):
            self.kill(pod)
        if self._tap:
            self._tap.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._tap.wait(_STOP_SECONDS)
            self._tap.kill()
        self._sweep()
        text = json.dumps(self._known, indent=1)
        (self.folder / "pods.json").write_text(text + "\n", encoding="utf-8")

    def pod(
        self, name: str, address: str, identity: str, behaviour: Mapping[str, Any] | None = None
    ) -> Pod:
        """A new pod; with a behaviour (see `pod.py`) it begins to work at once."""
        namespace, _, workload = identity.partition("/")
        self._number += 1
        netns, wire = f"{self._tag}-{self._number}", f"{self._tag}v{self._number}"
        ip("netns", "add", netns)
        ip("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", netns)
        ip("link", "set", wire, "netns", self._router)
        self._in_router("ip", "link", "set", wire, "up")
        self._in_router("ip", "route", "add", f"{address}/32", "dev", wire)
        mac = self._in_router("cat", f"/sys/class/net/{wire}/address").strip()
        pod = Pod(name, address, namespace, workload, netns, mac)
        for told in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{address}/32", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", GATEWAY, "dev", "eth0", "scope", "link"),
            ("route", "add", "default", "via", GATEWAY, "dev", "eth0"),
        ):
            ip("-n", netns, *told)
        self.pods[name] = pod
        if address.startswith("10."):
            self._known[name] = {"ip": address, "namespace": namespace, "workload": workload}
        if behaviour is not None:
            self.program(pod, "pod.py", behaviour)
        return pod

    def hold(self, pod: Pod, network: str, workloads: Mapping[str, str]) -> None:
        """Let a pod stand for others: it holds all addresses of a network.

        workloads: address to identity, for `pods.json`.
        """
        ip("-n", pod.netns, "route", "add", "local", network, "dev", "lo")
        wire = f"{self._tag}v{pod.netns.rpartition('-')[2]}"
        self._in_router("ip", "route", "add", network, "dev", wire)
        for address, identity in workloads.items():
            namespace, _, workload = identity.partition("/")
            self._known[f"{workload}-{address}"] = {
                "ip": address,
                "namespace": namespace,
                "workload": workload,
            }

    def program(self, pod: Pod, name: str, told: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        """Start a program of this folder in a pod."""
        return self.start(pod, [sys.executable, str(HERE / name), json.dumps(told)])

    def start(self, pod: Pod, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a program in a pod; it ends with the pod. Its output goes to a file of the pod."""
        out = (self.folder / f"{pod.name}.log").open("ab")
        process = subprocess.Popen(
            ["ip", "netns", "exec", pod.netns, *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        out.close()
        pod.running.append(process)
        return process

    def run(self, pod: Pod, command: Sequence[str], seconds: float) -> int | None:
        """Run a program in a pod to its end, or for so long; returns its status, None if ended."""
        process = self.start(pod, command)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            return None

    def pause(self, pod: Pod, *, serving: bool) -> None:
        """Let a pod stop to serve, or serve again; its connections are refused meanwhile."""
        for process in pod.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGUSR2 if serving else signal.SIGUSR1)

    def kill(self, pod: Pod) -> None:
        """End all that runs in a pod, and the pod."""
        for process in pod.running:
            _end(process)
        ip("netns", "del", pod.netns, check=False)
        self.pods.pop(pod.name, None)

    def _listen(self) -> None:
        capture = self.folder / "traffic.pcap"
        told = (self.folder / "tap.log").open("wb")
        # A packet is seen where it enters the router, and so once.
        self._tap = subprocess.Popen(
            [
                *("ip", "netns", "exec", self._router, "dumpcap", "-q", "-P", "-i", "any"),
                *("-s", _SNAP, "-f", "inbound", "-w", str(capture)),
            ],
            stdout=told,
            stderr=told,
        )
        told.close()
        deadline = time.monotonic() + 10
        while not (capture.exists() and capture.stat().st_size):
            if self._tap.poll() is not None or time.monotonic() > deadline:
                raise LabError((self.folder / "tap.log").read_text(errors="replace"))
            time.sleep(0.05)

    def _in_router(self, *command: str) -> str:
        return _run("ip", "netns", "exec", self._router, *command)

    def _sweep(self) -> None:
        """Remove what an earlier lab of this tag left."""
        for line in _run("ip", "netns", "list").splitlines():
            name = line.split()[0]
            if name.startswith(f"{self._tag}-"):
                for process in _run("ip", "netns", "pids", name).split():
                    with suppress(ProcessLookupError):
                        os.kill(int(process), signal.SIGKILL)
                ip("netns", "del", name, check=False)


def ip(*arguments: str, check: bool = True) -> str:
    """Run iproute2."""
    return _run("ip", *arguments, check=check)


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if check and done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
