"""From files to incidents, beside what only decoding them takes, and beside memory's bandwidth.

Simulated flows of 100 workloads as Parquet, as Hubble's lines of JSON, and a capture as pcap, each
read by the sources that `replay` reads them with. Rates are of processor time; ratio is the share
of the decode-only rate, which nothing can pass.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench_pcap import repeated
from bench_pcap import traffic as capture
from measure import bandwidth, in_turns
from scenes import baseline, traffic

from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.parquet import write_flows
from sidelong.ingest.podmap import PodMap
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline
from sidelong.simulation_hubble import hubble_lines

__all__ = ["run"]

WORKLOADS: Final = 100
RATE: Final = 5_000.0
FLOWS: Final = 300_000
COPIES: Final = 3
ROUNDS: Final = 3


def decoded(path: Path) -> int:
    """The flows of a file, and nothing done with them."""
    return sum(batch.flows.height for batch in merged(open_inputs([str(path)])))


def replayed(path: Path, learnt: Baseline, pods: PodMap | None) -> int:
    """The flows of a file through a new pipeline."""
    pipeline, found = Pipeline(learnt, pods), 0
    for batch in merged(open_inputs([str(path)])):
        found += len(pipeline.process(batch.flows))
    return found + len(pipeline.finish())


def run() -> list[dict[str, Any]]:
    """The rows of the benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        return _rows(Path(folder))


def _rows(folder: Path) -> list[dict[str, Any]]:
    flows = traffic(WORKLOADS, RATE, FLOWS)
    width = flows.estimated_size() / flows.height
    parquet, lines, pcap = folder / "flows.parquet", folder / "flows.jsonl", folder / "shop.pcap"
    write_flows(flows.iter_slices(100_000), parquet)
    lines.write_text("\n".join(hubble_lines(flows).to_list()) + "\n", encoding="utf-8")
    pcap.write_bytes(repeated(capture(), COPIES))
    packets = sum(int(batch.flows["packets"].sum()) for batch in merged(open_inputs([str(pcap)])))
    learnt = baseline(WORKLOADS)
    speed = bandwidth()
    rows: list[dict[str, Any]] = [
        {"name": "memory, read and written", "rate": speed / 1e6, "unit": "MB/s"},
        {
            "name": "flows that memory could carry",
            "rate": speed / width,
            "unit": "flows/s",
            "bytes_a_flow": round(width),
        },
    ]
    for name, path, pods, count, unit in (
        ("Parquet", parquet, None, FLOWS, "flows/s"),
        ("Hubble JSON", lines, None, FLOWS, "flows/s"),
        ("pcap", pcap, _shop_pods(), packets, "packets/s"),
    ):
        acts: dict[str, Callable[[], object]] = {
            "decode": partial(decoded, path),
            "replay": partial(replayed, path, learnt, pods),
        }
        took = in_turns(acts, ROUNDS)
        rows += [
            {"name": f"{name} to flows", "rate": count / took["decode"], "unit": unit},
            {
                "name": f"{name} to incidents",
                "rate": count / took["replay"],
                "unit": unit,
                "ratio": took["decode"] / took["replay"],
                "against": "decoding alone",
            },
        ]
    return rows


def _shop_pods() -> PodMap | None:
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    pods = Path(os.environ.get("SIDELONG_DATA", default)) / "cluster-lab" / "pods.json"
    return PodMap.read(pods) if pods.is_file() else None


if __name__ == "__main__":
    for row in run():
        print(row, file=sys.stdout)
