"""Which numbers of a scorecard are worse than they were."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["worse"]


def worse(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What got worse, in words: attacks missed, false alarms, delays.

    Groups are compared that both have, so that a run without the live bench compares the rest.
    """
    groups = before["by_group"].keys() & now["by_group"].keys()
    simulated = [
        sum(one["simulated"]["benign"]["false_alarms"].values())
        for one in (before, now)
        if "simulated" in one
    ]
    more = [f"simulated: false alarms {' -> '.join(map(str, simulated))}"]
    return (more if simulated == sorted(set(simulated)) and len(simulated) == 2 else []) + [
        f"{group}, {kind}: {what}"
        for group in sorted(groups)
        for kind, old in before["by_group"][group].items()
        if isinstance(old, dict)
        for what in _worse(old, now["by_group"][group][kind])
    ]


def _worse(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    missed = (old["attacks"] - old["found"], new["attacks"] - new["found"])
    for name, (was, is_now) in {
        "attacks missed": missed,
        "false alarms": (old["false_alarms"], new["false_alarms"]),
        "events until found, at most": (old["events_max"] or 0, new["events_max"] or 0),
    }.items():
        if is_now > was:
            yield f"{name} {was} -> {is_now}"
