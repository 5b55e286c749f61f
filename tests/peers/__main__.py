"""Makes every real peer ready that tests need: `make peers`. What is there already costs nothing.

    .venv/bin/python tests/peers Kafka

makes ready only what is named.

Go programs are built into `.peers/`, which takes some minutes the first time. Debian's packages are
installed where that is allowed, and named where it is not; Maven gets the jars of Kafka.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `peers`, as pytest has it

from peers.alertmanager_peer import alertmanager_program
from peers.debian import DebianError, debian_program, installed
from peers.go_programs import GoError, built
from peers.kafka_jars import KafkaError, kafka_jars
from peers.spark_jars import spark_jars

SOURCES: Final = Path(__file__).resolve().parent
GO: Final = {
    "helmpeer": "helm",
    "hubblepeer": "hubble",
    "kubernetespeer": "kubernetes",
    "policypeer": "policy",
}
DEBIAN: Final = {
    "chromium": "chromium",
    "java": "default-jre-headless",
    "mvn": "maven",
    "nfdump": "nfdump",
    "nfpcapd": "nfdump",
    "tshark": "tshark",
}
"""Which package brings a program."""


def main(names: Collection[str]) -> int:
    """Make all ready, or those of `names`; returns 1 when something cannot be had, which the tests
    will say again."""
    steps: Mapping[str, Callable[[], object]] = {
        "Debian's packages": partial(installed, DEBIAN),
        "Alertmanager": alertmanager_program,
        "Kafka": kafka,
        "Spark": spark_jars,
        "promtool": partial(debian_program, "prometheus", "promtool"),
        **{name: partial(built, name, SOURCES / folder) for name, folder in GO.items()},
    }
    failed = False
    if unknown := sorted(set(names) - set(steps)):
        print(f"peers: no {', '.join(unknown)}, but {', '.join(steps)}", file=sys.stderr)
        return 2
    for name, step in steps.items():
        if names and name not in names:
            continue
        began = time.monotonic()
        try:
            step()
        except (DebianError, GoError, KafkaError, OSError, subprocess.CalledProcessError) as error:
            failed = True
            print(f"peers: {name}: {error}", file=sys.stderr)
        else:
            took = time.monotonic() - began
            if took > 1:
                print(f"peers: {name} ready after {took:.0f} s", flush=True)
    return int(failed)


def kafka() -> None:
    """Get its jars, and what runs them."""
    installed({name: DEBIAN[name] for name in ("java", "mvn")})
    kafka_jars()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
