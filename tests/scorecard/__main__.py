"""Scores detection and writes docs/scorecard.md: `make score`, or `sidelong score`.

    python tests/scorecard [--live FOLDER]... [--no-live] [--no-darpa] [--no-simulated] [--check]

Simulated traffic is judged meanwhile, by processes of their own. Without --live two sessions of the
live bench run first (network namespaces: root), eight minutes at the same time. --check writes
nothing and fails if a number is worse than docs/scorecard.json says.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `scorecard`
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))  # for `cluster`

from cluster.lab import PROGRAMS, unavailable
from peers.debian import DebianError, installed

from scorecard.captures import Capture, cluster_lab, live, public
from scorecard.card import cold_start, compared, hardened, page, totals
from scorecard.judged import Judged, judge
from scorecard.simulated import benign
from scorecard.simulated import cold_start as cold_start_simulated
from scorecard.worse import worse

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "scorecard.md"
NUMBERS: Final = ROOT / "docs" / "scorecard.json"
SEEDS: Final = (1, 2)
_SESSION_SECONDS: Final = 900


def main() -> int:
    """The command line; 1 if --check found a number that is worse."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--live", action="append", type=Path, default=[], metavar="FOLDER")
    parser.add_argument("--no-live", action="store_true")
    parser.add_argument("--no-darpa", action="store_true")
    parser.add_argument("--no-simulated", action="store_true")
    parser.add_argument("--simulated", type=Path, metavar="FILE", help="judged before")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    data = Path(os.environ.get("SIDELONG_DATA", ROOT.parent / "shared" / "data"))
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(2) as aside:
        parts = {} if options.no_simulated or options.simulated else _begun(aside)
        sessions = options.live or ([] if options.no_live else _sessions(Path(folder)))
        captures = [live(one) for one in sessions]
        if (data / "labels.json").is_file():
            captures += [*cluster_lab(data), *public(data)]
        else:
            print(f"no labelled captures in {data}; set SIDELONG_DATA", file=sys.stderr)
        if not captures:
            return 2
        card, judged = scored(captures)
        if options.simulated:
            card["simulated"] = json.loads(options.simulated.read_text(encoding="utf-8"))
        elif parts:
            print("waiting for simulated traffic", file=sys.stderr)
            card["simulated"] = {name: part.result() for name, part in parts.items()}
    if not options.no_darpa and (data / "midas-darpa").is_dir():
        from scorecard.midas import aucs

        card["darpa"] = {name: round(auc, 3) for name, auc in aucs(data).items()}
    if options.check:
        found = worse(json.loads(NUMBERS.read_text(encoding="utf-8")), card)
        print("\n".join(found) or "no number is worse")
        return int(bool(found))
    text = page(card, judged)
    print(text)
    PAGE.write_text(text, encoding="utf-8")
    NUMBERS.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return 0


def _begun(aside: ProcessPoolExecutor) -> dict[str, Future[dict[str, Any]]]:
    """The judging of simulated traffic, under way in processes of its own."""
    return {"benign": aside.submit(benign), "cold_start": aside.submit(cold_start_simulated)}


def scored(captures: Sequence[Capture]) -> tuple[dict[str, Any], list[Judged]]:
    """All numbers; tells on stderr how far it is."""
    judged = []
    for capture in captures:
        print(f"judging {capture.name}", file=sys.stderr)
        judged.append(judge(capture, closely=True))
    print("cold start, harder, and simpler detectors", file=sys.stderr)
    card = {
        "detection": totals(judged),
        "by_group": {
            group: totals([one for one in judged if one.capture.group == group])
            for group in dict.fromkeys(capture.group for capture in captures)
        },
        "cold_start": cold_start(captures),
        "harder": hardened(captures),
        "rivals": compared(captures),
    }
    return card, judged


def _sessions(folder: Path) -> list[Path]:
    """Run the live bench, all seeds at once; none where there can be no lab, which is said."""
    with suppress(DebianError, subprocess.CalledProcessError):
        installed(PROGRAMS)
    if why := unavailable():
        print(f"no live bench: {why}", file=sys.stderr)
        return []
    print(f"live bench: {len(SEEDS)} sessions at once, about eight minutes", file=sys.stderr)
    program = str(ROOT / "tests" / "bench" / "cluster" / "session.py")
    running = [
        (
            folder / str(seed),
            subprocess.Popen(
                [sys.executable, program, str(folder / str(seed)), "--seed", str(seed)]
            ),
        )
        for seed in SEEDS
    ]
    return [place for place, one in running if one.wait(_SESSION_SECONDS) == 0]


if __name__ == "__main__":
    sys.exit(main())
