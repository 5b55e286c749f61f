"""What is measured: named as Prometheus wants it, never falling, and in one table."""

import re
import subprocess
import threading
from pathlib import Path
from typing import Final

import pytest
from scraping import problems, samples

from sidelong.measures import MEASURES
from sidelong.metrics import Metrics
from sidelong.role import Labelled, Measures

ROOT: Final = Path(__file__).resolve().parent.parent


class Counted:
    """A role that counts what it is told to."""

    def __init__(self, name: str = "detect") -> None:
        self.name = name
        self.counted: dict[str | Labelled, float] = {}
        self.now: dict[str | Labelled, float] = {}
        self.broken = False

    def counters(self) -> Measures:
        if self.broken:
            raise RuntimeError("closed")
        return self.counted

    def gauges(self) -> Measures:
        return self.now


def everything() -> tuple[Metrics, Counted]:
    """Each measure of the table once."""
    metrics, role = Metrics(), Counted()
    for measure in MEASURES:
        labels = [part for name in measure.labels if name != "role" for part in (name, f"a {name}")]
        match measure.kind:
            case "counter":
                role.counted[measure.name, *labels] = 3
            case "gauge":
                role.now[measure.name, *labels] = 4
            case "histogram":
                metrics.observe(measure.name, "detect", 0.3)
    metrics.attach(role)
    return metrics, role


def at(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics.scrape()).get((name, frozenset(labels.items())))


def test_what_is_scraped_is_what_prometheus_reads_and_wants() -> None:
    metrics, _ = everything()
    assert list(problems(metrics.scrape())) == []


def test_every_measure_of_the_table_is_exported_under_its_name() -> None:
    metrics, _ = everything()
    exported = {name for name, _ in samples(metrics.scrape())}
    for measure in MEASURES:
        suffix = "_bucket" if measure.kind == "histogram" else ""
        assert f"{measure.metric}{suffix}" in exported


def test_promtool_finds_nothing_to_say(promtool: Path) -> None:
    metrics, _ = everything()
    ours = re.sub(rb"(?m)^(# (HELP|TYPE) )?process_.*\n", b"", metrics.scrape())
    said = subprocess.run([promtool, "check", "metrics"], input=ours, capture_output=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")


def test_pages_name_only_metrics_that_there_are() -> None:
    suffixes = ("", "_bucket", "_sum", "_count")
    known = {f"{one.metric}{suffix}" for one in MEASURES for suffix in suffixes}
    for page in (ROOT / "docs").glob("*.md"):
        named = re.findall(r"\bsidelong_[a-z_]+\b", page.read_text())
        assert set(named) <= known, page.name


def test_the_table_names_nothing_twice() -> None:
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    assert len({measure.metric for measure in MEASURES}) == len(MEASURES)


def test_a_measure_has_the_label_of_its_role_and_those_it_is_given() -> None:
    metrics, role = Metrics(), Counted("normalise")
    role.now["lag_records", "topic", "flows.raw", "partition", "3"] = 7
    metrics.attach(role)
    labels = {"role": "normalise", "topic": "flows.raw", "partition": "3"}
    assert at(metrics, "sidelong_lag_records", **labels) == 7


def test_what_differs_in_a_label_that_is_not_exported_is_summed() -> None:
    metrics, role = Metrics(), Counted()
    role.counted |= {("flows", "partition", "0"): 2, ("flows", "partition", "1"): 3}
    metrics.attach(role)
    assert at(metrics, "sidelong_flows_total", role="detect") == 5


def test_a_counter_does_not_fall_when_a_role_is_begun_anew() -> None:
    metrics, first, second = Metrics(), Counted(), Counted()
    first.counted["flows"], first.now["partitions"] = 10, 4
    metrics.attach(first)
    metrics.detach(first)
    metrics.detach(first)
    assert at(metrics, "sidelong_partitions", role="detect") is None
    second.counted["flows"] = 1
    metrics.attach(second)
    assert at(metrics, "sidelong_flows_total", role="detect") == 11


def test_a_role_that_cannot_be_asked_leaves_the_others_to_be_seen() -> None:
    metrics, closed, other = Metrics(), Counted(), Counted("correlate")
    closed.broken = True
    other.counted["flows"] = 2
    metrics.attach(closed)
    metrics.attach(other)
    assert at(metrics, "sidelong_flows_total", role="correlate") == 2


def test_what_is_in_no_table_is_said_and_not_exported(caplog: pytest.LogCaptureFixture) -> None:
    metrics, role = Metrics(), Counted()
    role.counted["flwos"] = 2
    metrics.attach(role)
    assert b"flwos" not in metrics.scrape() + metrics.scrape()
    metrics.observe("nowhere", "detect", 1)
    assert metrics.unknown == {"flwos", "nowhere"}
    assert caplog.text.count("flwos") == 1


def test_durations_are_counted_into_buckets() -> None:
    metrics = Metrics()
    observe = metrics.observer("deliver")
    for seconds in (0.02, 0.2, 0.2, 500.0):
        observe("source_to_webhook_seconds", seconds)
    name = "sidelong_source_to_webhook_seconds"
    assert at(metrics, f"{name}_bucket", role="deliver", le="0.1") == 1
    assert at(metrics, f"{name}_bucket", role="deliver", le="0.25") == 3
    assert at(metrics, f"{name}_count", role="deliver") == 4


def test_nothing_is_shared_between_two_processes_worth_of_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.count("restarts", "detect")
    assert at(one, "sidelong_role_restarts_total", role="detect") == 1
    assert at(other, "sidelong_role_restarts_total", role="detect") is None


def test_a_hostile_label_does_not_break_the_page() -> None:
    metrics, role = Metrics(), Counted()
    role.counted["delivered", "receiver", 'a"b\\c\nsidelong_flows_total 9'] = 1
    metrics.attach(role)
    (value,) = (v for (name, _), v in samples(metrics.scrape()).items() if "delivered" in name)
    assert value == 1
    assert b"\nsidelong_flows_total" not in metrics.scrape()


def test_threads_that_count_lose_nothing() -> None:
    metrics = Metrics()

    def count() -> None:
        for _ in range(2_000):
            metrics.count("restarts", "detect")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert at(metrics, "sidelong_role_restarts_total", role="detect") == 8_000
