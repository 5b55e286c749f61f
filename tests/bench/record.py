"""What was measured, kept: .bench/results.json whole, and the figures of docs/performance.md.

Each program measures a part and puts it in the place of the old one, so that the page can be
written anew from all parts whenever one of them changes (`page.py`).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from measure import machine

__all__ = ["FIGURES", "RESULTS", "apart", "figures", "keep"]

ROOT: Final = Path(__file__).resolve().parents[2]
FIGURES: Final = ROOT / "docs" / "performance.json"
RESULTS: Final = ROOT / ".bench" / "results.json"
_POINTS: Final = 120  # of a curve, as many as a drawing shows


def apart(code: str) -> dict[str, Any]:
    """What a process of its own prints as JSON; its memory is then nobody else's."""
    ran = subprocess.run(
        [sys.executable, "-c", f"import json; {code}"],
        cwd=Path(__file__).resolve().parent,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def figures() -> dict[str, Any]:
    """All parts there are."""
    if not FIGURES.exists():
        return {}
    found: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return found


def keep(part: str, result: Any) -> None:
    """Put a part in its place, with the machine it was measured on, and write the page anew."""
    from page import write_page

    RESULTS.parent.mkdir(exist_ok=True)
    whole = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if not isinstance(whole, dict) or "rows" in whole:
        whole = {}  # as an older version wrote it
    whole[part] = {"measured": machine(), "result": result}
    RESULTS.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    kept = figures() | {part: {"measured": machine(), "result": _thinned(result)}}
    FIGURES.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    write_page(kept)


def _thinned(result: Any) -> Any:
    """The result with no more points of a curve than a drawing needs, the last always."""
    if not isinstance(result, dict) or len(result.get("curve", ())) <= _POINTS:
        return result
    curve = result["curve"]
    step = -(-len(curve) // _POINTS)
    return result | {"curve": [*curve[::step], *([curve[-1]] if (len(curve) - 1) % step else [])]}
