"""The scorecard: numbers for each kind of attack, as a page to read and as numbers to compare."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from scorecard.altered import ALTERED
from scorecard.captures import NS, Capture
from scorecard.judged import Found, Judged, best_possible, judge, poisson, precision
from scorecard.rivals import RIVALS, seen

__all__ = ["KINDS", "cold_start", "compared", "hardened", "page", "totals"]

KINDS: Final = ("scan", "dns_exfiltration", "lateral_movement")
_HEAD: Final = (
    "# Scorecard",
    "",
    "Written by `make score`: every labelled capture of the shared data, and the live bench, which",
    "is real nmap, masscan, iodine and dns2tcp in network namespaces (tests/bench/cluster).",
    "Thresholds come from theory and were frozen before the live bench existed. Misses and false",
    "alarms stand as they are.",
    "",
)
_SHARES: Final = (0.0, 0.25, 1.0)


def totals(judged: Sequence[Judged]) -> dict[str, Any]:
    """Recall, delays, right names, false alarms: by kind."""
    days = sum(one.capture.workload_days for one in judged)
    told: dict[str, Any] = {"workload_days": round(days, 3)}
    for kind in KINDS:
        found = [f for one in judged for f in one.found if f.truth.kind == kind]
        hits = [f for f in found if f.incident is not None]
        delays = [f.events for f in hits if f.events is not None]
        rights = [f.right_object for f in hits if f.right_object is not None]
        ended = [f.ended for f in hits if f.ended is not None]
        limits = [f.limit for f in hits if f.limit is not None]
        false = sum(i.kind == kind for one in judged for i in one.false_alarms)
        low, high = poisson(false, days)
        told[kind] = {
            "attacks": len(found),
            "found": len(hits),
            "events": _spread(delays),
            "events_median": statistics.median(delays) if delays else None,
            "events_p95": _percentile(delays, 0.95),
            "events_max": max(delays, default=None),
            "ended": _spread(ended),
            "limit": _spread(limits),
            "bytes_max": max((f.bytes for f in hits if f.bytes is not None), default=None),
            "right_object": f"{sum(rights)} of {len(rights)}",
            "false_alarms": false,
            "false_alarms_per_workload_day": [round(value, 3) for value in (low, high)],
        }
    told["recounted"] = (
        f"{sum(one.recounted for one in judged)} of {sum(len(one.incidents) for one in judged)}"
    )
    for k in (5, 10):
        right, asked = precision(judged, k)
        told[f"precision_at_{k}"] = f"{right} of {asked}"
    return told


def _spread(values: Sequence[int]) -> list[float] | None:
    """The median, the 95th percentile and the most."""
    if not values:
        return None
    high = _percentile(values, 0.95)
    return [statistics.median(values), high if high is not None else 0, max(values)]


def _percentile(values: Sequence[int], share: float) -> int | None:
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1) + 0.499))]


def cold_start(captures: Iterable[Capture]) -> dict[str, str]:
    """How many attacks are found after none, a quarter and all of the quiet time."""
    told = {}
    chosen = [one for one in captures if one.quiet_until is not None]
    for share in _SHARES:
        judged = [judge(capture, share=share) for capture in chosen]
        told[f"{share:.0%} of the quiet time"] = _tally(judged)
    return told


def hardened(captures: Iterable[Capture]) -> dict[str, str]:
    """How many attacks are found when captures are made harder."""
    chosen = [one for one in captures if one.quiet_until is not None]
    return {
        name: _tally([judge(alter(capture)) for capture in chosen])
        for name, alter in ALTERED.items()
    }


def _tally(judged: Sequence[Judged]) -> str:
    found = [f for one in judged for f in one.found]
    hits = sum(f.incident is not None for f in found)
    false = sum(len(one.false_alarms) for one in judged)
    return f"{hits} of {len(found)}, {false} false"


def compared(captures: Iterable[Capture]) -> dict[str, dict[str, Any]]:
    """What simpler detectors find on the same captures, and at which price."""
    told: dict[str, dict[str, Any]] = {
        name: {"attacks": 0, "found": 0, "false_alarms": 0, "delays_s": []} for name in RIVALS
    }
    days = 0.0
    for capture in captures:
        quiet, rest = (seen(part, capture.pods) for part in capture.parts())
        days += capture.workload_days
        for name, (kinds, alarms_of) in RIVALS.items():
            alarms = list(alarms_of(quiet, rest))
            row = told[name]
            explained = set()
            for truth in capture.truths:
                hits = [
                    (who, when)
                    for who, when in alarms
                    if truth.holds(when) and (not truth.actors or who in truth.actors)
                ]
                explained.update(hits)
                if truth.kind in kinds:
                    row["attacks"] += 1
                    row["found"] += bool(hits)
                    if hits and truth.start > 0:
                        row["delays_s"].append((min(when for _, when in hits) - truth.start) / NS)
            row["false_alarms"] += len(set(alarms) - explained)
    for row in told.values():
        delays = row.pop("delays_s")
        row["median_delay_s"] = round(statistics.median(delays), 1) if delays else None
        row["false_alarms_per_workload_day"] = (
            round(row["false_alarms"] / days, 2) if days else None
        )
    return told


def page(card: Mapping[str, Any], judged: Sequence[Judged]) -> str:
    """The page docs/scorecard.md."""
    lines = [
        *_HEAD,
        "| | scans | DNS exfiltration | lateral movement |",
        "|---|---|---|---|",
    ]
    by_kind = [card["detection"][kind] for kind in KINDS]
    rows: list[tuple[str, list[str]]] = [
        ("attacks found", [f"{one['found']} of {one['attacks']}" for one in by_kind]),
        (
            "contacts that had ended, names or hops until then: median, 95 %, most",
            [_ended(one) for one in by_kind],
        ),
        ("what no test can beat", [best_possible(kind) for kind in KINDS]),
        (
            "contacts under way by then: median, 95 %, most",
            [_told(one.get("events")) if one["ended"] else "-" for one in by_kind],
        ),
        (
            "under way when any test could know",
            [_told(one["limit"]) for one in by_kind],
        ),
        ("bytes gone by then, most", [str(one["bytes_max"] or "-") for one in by_kind]),
        ("named the right object", [one["right_object"] for one in by_kind]),
        ("false alarms", [str(one["false_alarms"]) for one in by_kind]),
        (
            "false alarms per workload-day, 95 % limits",
            ["{} - {}".format(*one["false_alarms_per_workload_day"]) for one in by_kind],
        ),
    ]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    detection = card["detection"]
    lines += [
        "",
        f"Watched: {detection['workload_days']:,} workload-days. Of the five (ten) incidents",
        f"with the highest score of each capture {detection['precision_at_5']} "
        f"({detection['precision_at_10']}) belong to an attack.",
        f"Counted again by hand, flow by flow, {detection['recounted']} incidents agree in every",
        "number.",
        "",
        "An attempt that nobody answers is known to have failed a second later. Whoever sends a",
        "hundred a second has a hundred under way before any test could know: the last two lines",
        "tell such delays apart from those of the detector.",
        "",
        "## Each attack",
        "",
        "| capture | attack | kind | found after | incident |",
        "|---|---|---|---|---|",
    ]
    for one in judged:
        for found in one.found:
            lines.append(_line(found))
    false = [(one.capture.name, incident) for one in judged for incident in one.false_alarms]
    lines += ["", "## False alarms", ""]
    lines += [f"- {name}: {incident.severity}, {incident.summary}" for name, incident in false]
    lines += [] if false else ["None."]
    if simulated := card.get("simulated"):
        lines += _simulated(simulated)
    for title, name in (("Cold start", "cold_start"), ("Harder", "harder")):
        lines += [
            "",
            f"## {title}",
            "",
            "Live bench and cluster-lab.",
            "",
            "| | attacks found |",
            "|---|---|",
        ]
        lines += [f"| {what} | {seen} |" for what, seen in card[name].items()]
    lines += [
        "",
        "## Simpler detectors on the same captures",
        "",
        "| | attacks of its kind found | median delay | false alarms per workload-day |",
        "|---|---|---|---|",
    ]
    for name, row in card["rivals"].items():
        delay = "-" if row["median_delay_s"] is None else f"{row['median_delay_s']} s"
        cost = row["false_alarms_per_workload_day"]
        lines.append(f"| {name} | {row['found']} of {row['attacks']} | {delay} | {cost} |")
    if darpa := card.get("darpa"):
        told = ", ".join(f"{name} {auc:.3f}" for name, auc in darpa.items())
        lines += ["", f"DARPA 1998, AUC, as an anchor only: {told} (published for MIDAS-F: 0.987)."]
    return "\n".join(lines) + "\n"


def _simulated(card: Mapping[str, Any]) -> list[str]:
    """The lines on simulated traffic, apart from those on real captures."""
    one = card["benign"]
    low, high = one["false_alarms_per_workload_day"]
    told = one["false_alarms_told"]
    false = ", ".join(f"{count} {kind}" for kind, count in one["false_alarms"].items()) or "none"
    return [
        "",
        "## Simulated",
        "",
        "Made up by `sidelong simulate`, and no measurement of a real cluster:",
        f"{one['workloads']} workloads at work by day and night, with rollouts, CronJobs, outages,",
        "scrapes, probes and lookups through search paths;",
        f"{one['watched_hours']} hours, judged by a baseline of {one['learnt_hours']}.",
        "",
        "| | |",
        "|---|---|",
        f"| watched | {one['workload_days']:,} workload-days, about {one['flows']:,} flows |",
        f"| false alarms | {false} |",
        f"| false alarms per workload-day, 95 % limits | {low} - {high} |",
        f"| anomalies a day, information only | {one['anomalies_a_day']} (budget: 1) |",
        *(f"| found after {k} of learning | {v} |" for k, v in card["cold_start"].items()),
        *(f"| false alarm | {summary} |" for summary in told),
    ]


def _ended(one: Mapping[str, Any]) -> str:
    return _told(one["ended"] or one["events"])


def _told(spread: Sequence[float] | None) -> str:
    return "-" if spread is None else ", ".join(f"{value:g}" for value in spread)


def _line(found: Found) -> str:
    truth, incident = found.truth, found.incident
    what = f"| {found.capture} | {truth.name} | {truth.kind.replace('_', ' ')} |"
    if incident is None:
        return f"{what} **missed** | |"
    unit = {"scan": "contacts", "dns_exfiltration": "names", "lateral_movement": "hops"}[truth.kind]
    after = f"{found.events} {unit}"
    if found.ended is not None:
        after = f"{found.ended} ended, {found.events} under way, limit {found.limit}"
    return f"{what} {after} | {incident.severity}: {incident.summary} |"
