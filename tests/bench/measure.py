"""How things are measured here: processor time, medians, and what the machine itself can do.

Processor time is that of all threads of the process. On a machine that does other work as well it
is what a measurement can go by, with ratios of things measured in turns; wall time is given only
where it is what matters.
"""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

__all__ = ["bandwidth", "cpu_seconds", "in_turns", "machine", "peak_bytes", "resident_bytes"]

_BANDWIDTH_BYTES: Final = 256 << 20
_ROUNDS: Final = 5


def cpu_seconds(act: Callable[[], object]) -> float:
    """Processor time of one act."""
    began = time.process_time()
    act()
    return time.process_time() - began


def in_turns(acts: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median processor time of each act, done in turns so that all meet the same weather."""
    took: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds):
        for name, act in acts.items():
            took[name].append(cpu_seconds(act))
    return {name: statistics.median(each) for name, each in took.items()}


def bandwidth() -> float:
    """Bytes a second that one core reads and writes: a copy of a quarter of a GiB, its median."""
    source = np.ones(_BANDWIDTH_BYTES // 8)
    target = np.empty_like(source)
    target[:] = source  # whatever memory is got at first
    took = in_turns({"copy": lambda: np.copyto(target, source)}, _ROUNDS)["copy"]
    return 2 * _BANDWIDTH_BYTES / took


def machine() -> dict[str, Any]:
    """Where and when."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "commit": _commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def resident_bytes() -> int:
    """What this process has in memory now."""
    return _status("VmRSS:")


def peak_bytes() -> int:
    """The most that it had since it began."""
    return _status("VmHWM:")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(key))
    return int(line.split()[1]) << 10


def _commit() -> str:
    asked = ["git", "rev-parse", "--short", "HEAD"]
    told = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True)
    return told.stdout.strip() or "unknown"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
