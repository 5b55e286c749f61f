"""One session of the live bench: a quiet time to learn from, then everything that happens.

    python tests/bench/cluster/session.py FOLDER [--seed N] [--quiet SECONDS]

writes FOLDER/traffic.pcap, pods.json and truth.json (when the quiet time ended, and each `Truth`).
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `cluster`

from cluster.attacks import HAPPENINGS, happened
from cluster.lab import Lab, unavailable
from cluster.shop import Shop

_PAUSE_SECONDS = 2.0


def session(folder: Path, seed: int, quiet_seconds: float) -> None:
    """Run it all; takes `quiet_seconds` and about five minutes."""
    truths = []
    with Lab(folder, f"sl{seed}") as lab:
        shop = Shop(lab, seed)
        shop.open()
        time.sleep(quiet_seconds)
        begun = time.time()
        for what in HAPPENINGS:
            truths.append(happened(shop, what).plain())
            time.sleep(_PAUSE_SECONDS)
        time.sleep(3)
        ended = time.time()
    told = {"seed": seed, "quiet_until": begun, "ended": ended, "truths": truths}
    (folder / "truth.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quiet", type=float, default=180, help="seconds before anything happens")
    options = parser.parse_args()
    if why := unavailable():
        print(f"no lab here: {why}", file=sys.stderr)
        return 2
    session(options.folder, options.seed, options.quiet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
