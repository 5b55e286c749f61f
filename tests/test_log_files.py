"""Logs that others published read without a bad row, and as many rows as they themselves have."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import log_samples as samples
import polars as pl
import pytest

from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.sniff import format_of
from sidelong.ingest.source import BadRows

ZEEK = (
    "slips/test9-mixed-zeek-dir",
    "slips/port-scans/horizontal",
    "slips/port-scans/vertical",
    "stratosphere-testing/008-zeek-mixed/data",
    "stratosphere-testing/010-zeek-mixed/data",
    "rita-proxy/proxy_rolling",
    "otrf/compound/apt29/day1/zeek",
    "netflowlabeler",
)
NETOBSERV = (
    "flow_records",
    "flow_records_dropped",
    "flow_records_has_dropped",
    "flow_records_sent",
)


def read(path: Path) -> tuple[pl.DataFrame, BadRows]:
    batches = [batch for source in open_inputs([str(path)]) for batch in source.batches()]
    return pl.concat([batch.flows for batch in batches]), sum((b.bad for b in batches), BadRows())


def records(path: Path) -> Iterator[dict[str, str | None]]:
    """The records of a log, read one by one, with the log's name as `stream`."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    fields: list[str] = []
    for line in content.decode().splitlines():
        if line.startswith("{"):
            record: dict[str, Any] = json.loads(line)
            name = path.name.partition(".")[0]
            yield {"stream": record.get("@stream", name), **record}
        elif line.startswith("#fields\t"):
            fields = line.split("\t")[1:]
        elif line and not line.startswith("#"):
            values = (None if value == "-" else value for value in line.split("\t"))
            name = path.name.partition(".")[0]
            yield {"stream": name, **dict(zip(fields, values, strict=True))}


def is_icmp_error(record: dict[str, str | None]) -> bool:
    """Whether a record of conn.log begins with an error, which answers somebody else."""
    kind = int(record.get("id.orig_p") or record.get("id_orig_p") or 0)
    six = ":" in (record.get("id.orig_h") or record.get("id_orig_h") or "")
    return record["proto"] == "icmp" and kind in ((1, 2, 3, 4) if six else (3, 4, 5, 11, 12))


def expected(folder: Path) -> Counter[str]:
    """How many attempts there are by what tells them."""
    whole = [record for path in sorted(folder.iterdir()) for record in records(path)]
    lookups = [one for one in whole if one["stream"] == "dns" and one.get("query") is not None]
    asked = {one["uid"] for one in lookups}
    conns = [one for one in whole if one["stream"] == "conn" and one["uid"] not in asked]
    conns = [one for one in conns if not is_icmp_error(one)]
    uids = {one["uid"] for one in whole if one["stream"] == "conn"}
    handshakes = [one for one in whole if one["stream"] == "ssl" and one["uid"] not in uids]
    requests = [one for one in whole if one["stream"] == "http"]
    return Counter(
        {"dns": len(lookups), "http": len(requests), "conn": len(conns) + len(handshakes)}
    )


@pytest.mark.parametrize("folder", ZEEK)
def test_every_zeek_log_reads_whole(data: Path, folder: str) -> None:
    flows, bad = read(data / folder)
    begun = flows.filter(~pl.col("reply"))
    told = begun.select(pl.col("l7").replace("tls", None).fill_null("conn")).to_series()
    assert bad == BadRows()
    assert Counter(told.to_list()) == +expected(data / folder)
    assert flows["time"].is_sorted()


@pytest.mark.parametrize("name", NETOBSERV)
def test_every_answer_of_loki_reads_whole(data: Path, name: str) -> None:
    path = data / "netobserv" / f"{name}.json"
    streams = json.loads(path.read_bytes())["data"]["result"]
    lines = [json.loads(line) for stream in streams for _, line in stream["values"]]
    of_ip = [line for line in lines if line["Etype"] != 2054]
    flows, bad = read(path)
    assert bad == BadRows()
    assert flows.height == len(of_ip)
    assert flows["bytes"].sum() == sum(line.get("Bytes", 0) for line in of_ip)
    assert flows["src"].is_not_null().sum() == sum(
        "SrcK8S_Namespace" in stream["stream"]
        for stream in streams
        for _, line in stream["values"]
        if json.loads(line)["Etype"] != 2054
    )


@pytest.mark.parametrize("name", [name for name in samples.FORMATS if name != "csv"])
def test_a_format_is_told_by_its_first_bytes(name: str) -> None:
    known = {"zeek json": "zeek", "loki": "netobserv"}
    assert format_of(samples.FORMATS[name], name) == known.get(name, name)


def test_a_log_that_begins_inside_a_line_is_told_by_the_next() -> None:
    assert format_of(samples.ZEEK_JSON[40:], "log") == "zeek"
