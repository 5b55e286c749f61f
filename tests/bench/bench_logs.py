"""Records per second of each decoder of flow logs, beside the obvious way of reading them.

All read the same records over and over, in turns and on one core: rates are records per second of
processor time, medians over the rounds. The obvious way is orjson, or the module csv, for every
line, a row of what matters, and then a frame. Zeek's logs are also sorted, in memory; that is
measured apart for more rows than are held there.
"""

import csv
import importlib
import importlib.util
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import log_samples as samples
import orjson
import polars as pl

from sidelong.ingest.csv_flows import CsvLines
from sidelong.ingest.csv_settings import CsvSettings
from sidelong.ingest.goflow2 import Goflow2Lines
from sidelong.ingest.lines import line_blocks
from sidelong.ingest.netobserv import NetObservLines
from sidelong.ingest.nfdump import NfdumpArray
from sidelong.ingest.vpc_logs import VpcLines
from sidelong.ingest.zeek_lines import ZeekLines
from sidelong.ingest.zeek_logs import ZeekLog, ZeekLogs

__all__ = ["run"]

RECORDS: Final = 100_000
MANY: Final = 2_000_000
ROUNDS: Final = 3
CSV: Final = CsvSettings(columns=samples.CSV_COLUMNS, time_unit="s")
ENDS: Final = ("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "history", "uid")
KEYS: Final = {
    "zeek json": ("ts", *ENDS, "query", "rcode", "orig_ip_bytes", "resp_ip_bytes"),
    "netobserv": ("TimeFlowStartMs", "SrcAddr", "SrcPort", "DstAddr", "DstPort", "Flags", "Bytes"),
    "goflow2": ("time_flow_start_ns", "src_addr", "src_port", "dst_addr", "dst_port", "bytes"),
}


def repeated(content: bytes, count: int) -> bytes:
    """As many records as asked for, the header at their beginning only."""
    lines = content.splitlines(keepends=True)
    head = [line for line in lines[:8] if line[:1] in b"#Wv"]
    body = [line for line in lines if line[:1] not in b"#Wv"]
    return b"".join([*head, *(body * (count // len(body) + 1))[:count]])


def lines_of(decoder: Callable[[], Any]) -> Callable[[bytes], int]:
    def read(content: bytes) -> int:
        with decoder() as lines:
            blocks = line_blocks(io.BytesIO(content), 0, 8 << 20)
            return sum(lines.decode(block).flows.height for block in blocks)

    return read


def sorted_zeek(content: bytes) -> int:
    log = ZeekLog("conn.log", lambda: io.BytesIO(content), len(content))
    return sum(batch.flows.height for batch in ZeekLogs("conn.log", [log]).batches())


def array_of_nfdump(content: bytes) -> int:
    source = NfdumpArray("flows", lambda: io.BytesIO(content), len(content))
    return sum(batch.flows.height for batch in source.batches())


def by_orjson(name: str) -> Callable[[bytes], int]:
    def read(content: bytes) -> int:
        records = (orjson.loads(line) for line in content.splitlines())
        rows = [tuple(record.get(key) for key in KEYS[name]) for record in records]
        return pl.DataFrame(rows, orient="row", infer_schema_length=None).height

    return read


def by_csv(delimiter: str) -> Callable[[bytes], int]:
    def read(content: bytes) -> int:
        rows = [
            tuple(row[:15])
            for row in csv.reader(io.StringIO(content.decode()), delimiter=delimiter)
            if len(row) > 5
        ]
        return pl.DataFrame(rows, orient="row", infer_schema_length=None).height

    return read


def whole_nfdump(content: bytes) -> int:
    rows = [tuple(record.values()) for record in orjson.loads(content)]
    return pl.DataFrame(rows, orient="row", infer_schema_length=None).height


def by_zat(content: bytes) -> int:
    reader = importlib.import_module("zat.zeek_log_reader").ZeekLogReader
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "conn.log")
        path.write_bytes(content)
        rows = list(reader(str(path)).readrows())
    return len(rows)


Way = Callable[[bytes], int]
WAYS: Final[dict[str, dict[str, Way]]] = {
    "zeek": {"decode": lines_of(ZeekLines), "and sort": sorted_zeek, "csv": by_csv("\t")},
    "zeek json": {"decode": lines_of(ZeekLines), "orjson": by_orjson("zeek json")},
    "netobserv": {"decode": lines_of(NetObservLines), "orjson": by_orjson("netobserv")},
    "goflow2": {"decode": lines_of(Goflow2Lines), "orjson": by_orjson("goflow2")},
    "nfdump": {"decode": array_of_nfdump, "orjson of it all": whole_nfdump},
    "vpc": {"decode": lines_of(VpcLines), "csv": by_csv(" ")},
    "csv": {"decode": lines_of(lambda: CsvLines(CSV)), "csv": by_csv(",")},
}


def ways() -> dict[str, dict[str, Way]]:
    """The ways to compare; `zat` only where it is installed."""
    if importlib.util.find_spec("zat") is None:
        return WAYS
    return {**WAYS, "zeek": {**WAYS["zeek"], "zat": by_zat}}


def content_of(name: str) -> bytes:
    if name != "nfdump":
        return repeated(samples.FORMATS[name], RECORDS)
    objects = samples.NFDUMP.strip().removeprefix(b"[").removesuffix(b"]").strip()
    times = RECORDS // samples.RECORDS
    return b"[\n" + b",\n".join([objects] * times) + b"]\n"


def measure() -> dict[str, dict[str, float]]:
    """Records per second of processor time, by format and way."""
    found: dict[str, dict[str, float]] = {}
    for name, compared in ways().items():
        content = content_of(name)
        rates: dict[str, list[float]] = {way: [] for way in compared}
        for _ in range(ROUNDS):
            for way, read in compared.items():
                began = time.process_time()
                read(content)
                rates[way].append(RECORDS / (time.process_time() - began))
        found[name] = {way: statistics.median(rate) for way, rate in rates.items()}
    return found


def on_disk() -> dict[str, float]:
    """A log of `MANY` records: records per second of wall time, and the most memory, in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "conn.log")
        piece = repeated(samples.ZEEK, RECORDS)
        head = b"".join(line for line in piece.splitlines(keepends=True)[:8] if line[:1] == b"#")
        with path.open("wb") as file:
            file.write(head)
            for _ in range(MANY // RECORDS):
                file.write(piece[len(head) :])
        log = ZeekLog(str(path), lambda: path.open("rb"), path.stat().st_size)
        began = time.monotonic()
        source = ZeekLogs(str(path), [log])
        count = sum(batch.flows.height for batch in source.batches())
        seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rate": MANY / seconds, "flows": count, "peak": peak}


def run() -> Iterator[dict[str, Any]]:
    """One row for each way of each format, and one for what is sorted on disk."""
    alone = {**os.environ, "POLARS_MAX_THREADS": "1"}
    code = "import json, bench_logs as b; print(json.dumps([b.{}()]))"

    def apart(what: str) -> Any:
        ran = subprocess.run(
            [sys.executable, "-c", code.format(what)],
            cwd=Path(__file__).parent,
            env=alone,
            check=True,
            capture_output=True,
        )
        return orjson.loads(ran.stdout)[0]

    for name, rates in apart("measure").items():
        obvious = list(rates)[-1]
        for way, rate in rates.items():
            ratio = None if way == obvious else rate / rates[obvious]
            yield {"name": f"{name}: {way}", "rate": rate, "unit": "records/s", "ratio": ratio}
    disk = apart("on_disk")
    yield {"name": f"zeek: {MANY:,} sorted on disk", "rate": disk["rate"], "unit": "records/s"}
    yield {"name": "zeek: most memory meanwhile", "rate": disk["peak"], "unit": "MiB"}
