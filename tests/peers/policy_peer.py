"""Cilium's own policy engine, and the schemas that an API server holds policies to.

    .venv/bin/python tests/peers/policy_peer.py

builds the program and fetches the schemas ahead of the tests.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from peers.go_programs import GoError, built

__all__ = ["Engine", "crd_schema", "engine", "manifest_schemas"]

SOURCES: Final = Path(__file__).resolve().parent / "policy"
PROTOCOLS: Final = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1}

_CILIUM: Final = ("github.com/cilium/cilium", "v1.19.4")
_ISTIO: Final = ("istio.io/api", "v1.31.4")
_FILES: Final = {
    "CiliumNetworkPolicy": (
        _CILIUM,
        "pkg/k8s/apis/cilium.io/client/crds/v2/ciliumnetworkpolicies.yaml",
    ),
    "AuthorizationPolicy": (_ISTIO, "kubernetes/customresourcedefinitions.gen.yaml"),
}


class Engine:
    """One run of the program."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def passes(
        self,
        policies: Sequence[Mapping[str, Any]],
        ends: Sequence[Sequence[str]],
        flows: Sequence[tuple[int, int, str, int]],
    ) -> list[bool]:
        """Whether each flow (from, to, protocol, port; ends by index) passes the manifests.

        ends: labels as Cilium writes them, `source:key=value`. Errors: ValueError with what Cilium
        has against the policies.
        """
        numbered = [(src, dst, PROTOCOLS[name], port) for src, dst, name, port in flows]
        asked = {"policies": list(policies), "ends": list(ends), "flows": numbered}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        passing: list[bool] = answer["passes"]
        return passing

    def close(self) -> None:
        """End the program."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process.wait(10)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Cilium's policy engine."""
    with _peer():
        running = Engine(built("policypeer", SOURCES))
    yield running
    running.close()


@pytest.fixture(scope="session")
def manifest_schemas() -> dict[str, dict[str, Any]]:
    """By kind the JSON schema of a manifest, from the definitions that clusters install."""
    with _peer():
        return {kind: crd_schema(kind) for kind in _FILES}


def crd_schema(kind: str) -> dict[str, Any]:
    """The schema of one kind, in which a field that it does not know is an error."""
    (module, version), path = _FILES[kind]
    text = (_module(module, version) / path).read_text(encoding="utf-8")
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for definition in yaml.load_all(text, Loader=loader):
        if definition and definition["spec"]["names"]["kind"] == kind:
            served = definition["spec"]["versions"]
            newest = next((one for one in served if one["storage"]), served[0])
            schema: dict[str, Any] = _strict(newest["schema"]["openAPIV3Schema"])
            schema["properties"] |= {key: {} for key in ("apiVersion", "kind", "metadata")}
            return schema
    raise GoError(f"no {kind} in {path} of {module}")


def _strict(schema: Any) -> Any:
    """Kubernetes drops what a schema does not know; here it must not be there."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _strict(value) for key, value in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        inner.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        inner.pop("type", None)
    return inner


def _module(name: str, version: str) -> Path:
    go = shutil.which("go") or "/usr/local/go/bin/go"
    try:
        got = subprocess.run(
            [go, "mod", "download", "-json", f"{name}@{version}"],
            cwd=SOURCES.anchor,
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise GoError(f"{name} cannot be had: {error}") from error
    return Path(json.loads(got.stdout)["Dir"])


@contextmanager
def _peer() -> Iterator[None]:
    if os.environ.get("SIDELONG_PEERS") == "off" and os.environ.get("CI") != "true":
        pytest.skip("SIDELONG_PEERS is off: no Cilium to ask")
    try:
        yield
    except GoError as error:
        pytest.fail(f"{error}\nor set SIDELONG_PEERS=off to go without", pytrace=False)


if __name__ == "__main__":
    built("policypeer", SOURCES)
    for known in _FILES:
        crd_schema(known)
