"""The pod map of a cluster of 50,000 pods: how fast it is learnt, changed, and how much it holds.

Pods are 12 kB of JSON each, as a deployment with three containers and its managed fields is. Rates
are per second of processor time, on one core; memory is what the ledger added to the process.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from sidelong.ingest.kubernetes_ledger import KINDS, Ledger
from sidelong.ingest.podmap import PodMap

__all__ = ["run"]

PODS: Final = 50_000
FLOWS: Final = 200_000
CHANGES: Final = 50


def pod(number: int) -> bytes:
    """Of a Deployment with a hundred pods, as the API writes it."""
    name = f"web-{number // 100}-7d9f8c6b5"
    owner = {"kind": "ReplicaSet", "name": name, "uid": name, "controller": True}
    settings = [{"name": f"SETTING_{n}", "value": "x" * 40} for n in range(40)]
    ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return json.dumps(
        {
            "metadata": {
                "name": f"{name}-{number:05d}",
                "namespace": "shop",
                "uid": f"{number}",
                "creationTimestamp": "2026-11-23T09:14:02Z",
                "labels": {"pod-template-hash": "7d9f8c6b5"},
                "ownerReferences": [owner],
                "managedFields": [{"fieldsV1": {"f:x": "y" * 100}}] * 20,
            },
            "spec": {"containers": [{"name": f"c{n}", "env": settings} for n in range(3)]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
        }
    ).encode()


def measure() -> list[dict[str, Any]]:
    """The rows, in a process of its own because of the memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ledger, learning = Ledger(), 0.0
    for number in range(PODS):
        raw = pod(number)
        began = time.process_time()
        ledger.put(msgspec.json.decode(raw, type=KINDS["Pod"]))
        learning += time.process_time() - began
    began = time.process_time()
    pods = PodMap(ledger.holders())
    learning += time.process_time() - began

    changing = 0.0
    for number in range(PODS, PODS + CHANGES):
        ledger.put(msgspec.json.decode(pod(number), type=KINDS["Pod"]))
        began = time.process_time()
        pods = PodMap(ledger.holders())
        changing += time.process_time() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    ips = pods.frame["ip"].sample(FLOWS, with_replacement=True, seed=1)
    now = pl.Series("time", [time.time_ns()]).cast(pl.Datetime("ns", "UTC"))
    asked = pl.DataFrame({"ip": ips, "time": now.new_from_index(0, FLOWS)})
    began = time.process_time()
    pods.holders(asked)
    naming = time.process_time() - began
    return [
        {"name": "pods listed", "rate": PODS / learning, "unit": "pods/s"},
        {"name": "map after a change, 50,000 pods", "rate": CHANGES / changing, "unit": "maps/s"},
        {"name": "addresses named", "rate": FLOWS / naming, "unit": "addresses/s"},
        {"name": "memory, 50,000 pods", "rate": grown / 1024, "unit": "MiB"},
    ]


def run() -> list[dict[str, Any]]:
    """Learn, change and ask."""
    ran = subprocess.run(
        [sys.executable, __file__], check=True, capture_output=True, text=True, cwd=Path.cwd()
    )
    rows: list[dict[str, Any]] = json.loads(ran.stdout)
    return rows


if __name__ == "__main__":
    print(json.dumps(measure()))
