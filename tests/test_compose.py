"""compose/: what can be known of it where no engine runs containers.

That compose.yaml keeps to the compose-spec as far as we use it is checked here by rules of our own,
not by its schema.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from sidelong.config import look_at
from sidelong.measures import MEASURES
from sidelong.service_settings import ROLES

ROOT: Final = Path(__file__).resolve().parent.parent
COMPOSE: Final = ROOT / "compose"
DASHBOARDS: Final = sorted((COMPOSE / "grafana" / "dashboards").glob("*.json"))
OURS: Final = "sidelong:local"
KEYS: Final = {
    *("image", "build", "command", "entrypoint", "environment", "volumes", "ports", "depends_on"),
    *("healthcheck", "restart", "read_only", "cap_drop", "security_opt", "tmpfs"),
    *("stop_grace_period", "mem_limit"),
}
"""Of a service: what compose.yaml uses of compose-spec."""


def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return read


SERVICES: Final[dict[str, dict[str, Any]]] = compose()["services"]
ONLY_OURS: Final = {name: one for name, one in SERVICES.items() if one.get("image") == OURS}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((COMPOSE / "alert-rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """Where each query stands, and the query."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield panel["title"], target["expr"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_what_compose_knows_and_nothing_else(name: str) -> None:
    service = SERVICES[name]
    assert set(service) <= KEYS
    assert "image" in service
    for port in service.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), "for this machine only"
    for key, value in service.get("environment", {}).items():
        assert isinstance(value, str), f"{key} would be read as YAML pleases"
    for other, how in dict(service.get("depends_on") or {}).items():
        healthy = how["condition"] == "service_healthy"
        assert ("test" in SERVICES[other].get("healthcheck", {})) or not healthy


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source, target, *how = volume.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (COMPOSE / source).exists()
            assert how == ["ro"]
        else:
            assert source in compose()["volumes"]


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "kafka"])
def test_nothing_may_do_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_every_role_is_done_by_one_service() -> None:
    done = [
        role
        for service in ONLY_OURS.values()
        if service.get("command", [])[:1] == ["run"]
        for option, role in zip(service["command"], service["command"][1:], strict=False)
        if option == "--role"
    ]
    assert sorted(done) == sorted(ROLES)


@pytest.mark.parametrize("name", ONLY_OURS)
def test_the_settings_can_be_used(name: str) -> None:
    read = look_at(str(COMPOSE / "sidelong.toml"), ONLY_OURS[name]["environment"])
    assert read.problems == []
    assert read.config is not None
    bytes_ = int(ONLY_OURS[name]["mem_limit"].removesuffix("m"))
    assert bytes_ >= 1.25 * read.config.service.memory_megabytes
    grace = int(ONLY_OURS[name]["stop_grace_period"].removesuffix("s"))
    assert grace > read.config.service.drain_seconds


def test_settings_name_services_that_are_there() -> None:
    text = (COMPOSE / "sidelong.toml").read_text() + (COMPOSE / "prometheus.yml").read_text()
    named = re.findall(r"([a-z]+):(?:19092|9093)", text)
    named += re.findall(r'allow_private = \["([a-z]+)"', text)
    named += re.findall(r"names: \[(.*)\]", text)[0].split(", ")
    assert set(named) <= set(SERVICES)
    assert len(named) > 5


def test_the_image_is_no_roots_and_says_whether_it_is_well() -> None:
    text = (COMPOSE / "Dockerfile").read_text()
    stages = re.split(r"(?m)^FROM ", text)[1:]
    service = next(stage for stage in stages if " AS service\n" in stage)
    assert stages[-1].strip() == "service", "what is built when no target is named"
    assert re.search(r"(?m)^USER [1-9]\d*:[1-9]\d*$", service), "by number, for Kubernetes"
    assert re.search(r"(?m)^HEALTHCHECK .*\\\n  CMD \[.*9464/healthz", service)
    for line in re.findall(r"(?m)^COPY (?!--from)(.*)$", text):
        *sources, _ = line.split()
        ignored = (COMPOSE / "Dockerfile.dockerignore").read_text().splitlines()
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored


def test_dashboards_and_rules_ask_for_what_is_exported() -> None:
    exported = {measure.metric: set(measure.labels) for measure in MEASURES}
    for measure in MEASURES:
        if measure.kind == "histogram":
            exported[f"{measure.metric}_bucket"] = {*measure.labels, "le"}
    asked = 0
    for place, query in queries():
        names = re.findall(r"\bsidelong_\w+", query)
        assert names or "process_" in query or query.startswith("up{"), place
        assert set(names) <= set(exported), place
        asked += len(names)
        known = {"instance", "job"}.union(*(exported[name] for name in names))
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
            assert {label for label in labels.split(", ") if label} <= known, place
        for labels in re.findall(r"\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)=", labels)) <= known, place
    assert asked > 40


def test_every_alert_says_what_it_means() -> None:
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def test_panels_of_a_dashboard_do_not_overlap() -> None:
    for path in DASHBOARDS:
        panels = json.loads(path.read_text())["panels"]
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken
            assert at["x"] + at["w"] <= 24
            taken |= cells
        assert len({panel["id"] for panel in panels}) == len(panels)


def test_promtool_reads_every_rule_and_every_query(promtool: Path, tmp_path: Path) -> None:
    asked = [
        {"record": "query", "labels": {"number": str(number)}, "expr": variables_in(query)}
        for number, (_, query) in enumerate(queries())
    ]
    every = tmp_path / "queries.yml"
    every.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": asked}]}))
    commands: tuple[list[str | Path], ...] = (
        ["check", "rules", every, COMPOSE / "alert-rules.yml"],
        ["check", "config", COMPOSE / "prometheus.yml"],
    )
    for command in commands:
        checked = subprocess.run([promtool, *command], check=False, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def variables_in(query: str) -> str:
    """With what Grafana would put for its variables."""
    return query.replace("$__rate_interval", "5m").replace("$__range", "30m")


def test_jupyter_starts_in_a_copy_of_the_notebooks_that_is_not_overwritten(tmp_path: Path) -> None:
    service = SERVICES["jupyter"]
    assert {"../examples:/work/examples:ro", "../notebooks:/work/notebooks:ro"} <= {
        *service["volumes"]
    }
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    (tmp_path / "mine").mkdir()
    (tmp_path / "jupyter").write_text("#!/bin/sh\npwd\n")
    (tmp_path / "jupyter").chmod(0o755)
    script = service["command"][0].replace("$$", "$").replace("/work", str(tmp_path))
    mine = tmp_path / "mine" / "1-triage.ipynb"
    for first in (True, False):
        ran = subprocess.run(
            [*service["entrypoint"], script],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            check=True,
            capture_output=True,
            text=True,
        )
        assert ran.stdout == f"{tmp_path / 'mine'}\n"
        copies = {path.name for path in (tmp_path / "mine").iterdir()}
        assert copies == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
        assert first or mine.read_text() == "changed"
        mine.write_text("changed")
