"""Who gives addresses their names is said once, and reaches the incidents."""

import json
from pathlib import Path

import pytest
from cluster_objects import pod
from fake_kubernetes import fake_kubernetes, kubeconfig

from sidelong.cli import run


def test_a_file_and_a_cluster_at_once_are_refused(
    tmp_path: Path, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pods = str(shop / "pods.json")
    hubble = str(shop / "test.hubble.jsonl.zst")
    assert run(["replay", hubble, "--pods", pods, "--kubernetes"]) == 2
    assert "--pods for traffic of another time" in capsys.readouterr().err


def test_addresses_are_named_by_the_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = tmp_path / "scan.conn.log"
    rows = [
        {
            "ts": 1_795_400_000 + n / 100,
            "uid": f"C{n}",
            "id.orig_h": "10.0.0.7",
            "id.orig_p": 40_000,
            "id.resp_h": "10.0.0.9",
            "id.resp_p": n + 1,
            "proto": "tcp",
            "conn_state": "REJ",
            "history": "Sr",
            "orig_pkts": 1,
            "resp_pkts": 1,
        }
        for n in range(50)
    ]
    scan.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with fake_kubernetes() as (cluster, server):
        cluster.put("Pod", pod("cart", "10.0.0.7", start=1_795_000_000))
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, server))
        assert run(["replay", str(scan), "--kubernetes", "--output", "json"]) == 1
    incident = json.loads(capsys.readouterr().out.splitlines()[0])
    assert incident["actor"]["workload"] == "shop/cart"
