"""Policies on standard output, and on standard error what became of them when they were tried."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.alerts.policy_advice import notes
from sidelong.alerts.policy_evaluation import passes
from sidelong.alerts.policy_kubernetes import widened
from sidelong.alerts.policy_names import Selectors, workload_parts
from sidelong.alerts.policy_needs import Acquaintances
from sidelong.alerts.policy_replay import attempted, habitual
from sidelong.alerts.policy_settings import PolicySettings
from sidelong.alerts.policy_suggestions import Suggestion, allow_list, on_trial, suggestion
from sidelong.alerts.policy_text import policy_text
from sidelong.baseline_places import load_baseline
from sidelong.config import read_config
from sidelong.errors import ConfigError
from sidelong.listing import headline
from sidelong.terminal import Terminal, plural, printable

__all__ = ["BREAKS_SOMETHING", "FITS", "policy", "read_incidents"]

FITS: Final = 0
BREAKS_SOMETHING: Final = 1

_TOLD: Final = 40


def policy(
    workload: str | None,
    *,
    terminal: Terminal,
    baseline: str,
    incidents: str | None = None,
    incident: str | None = None,
    manifests: str | None = None,
    config: str | None = None,
    kind: str | None = None,
    label: str | None = None,
    nodes: tuple[str, ...] = (),
    audit: bool = False,
) -> int:
    """Print a policy for a workload or against an incident; returns the exit status, 0 or 1.

    Errors: ConfigError for options that do not go together, for a workload that no policy selects
    or of which the baseline knows nothing, and for files that cannot be used.
    """
    if (workload is None) == (incident is None):
        raise ConfigError(
            "a policy is for one workload or against one incident",
            hint="sidelong policy NAMESPACE/WORKLOAD, or --incident ID --incidents FILE",
        )
    given = {"kind": kind, "label": label, "manifests": manifests, "nodes": nodes}
    settings = _with(read_config(config).policy, given)
    if audit and settings.kind == "kubernetes":
        raise ConfigError(
            "a NetworkPolicy holds as soon as it is there, and has no --audit",
            hint="try it as --kind cilium, or read what it would break below the policy",
        )
    selectors = settings.selectors()
    known = Acquaintances(load_baseline(baseline))
    found = read_incidents(incidents) if incidents else {}
    if workload is None:
        one = _chosen(found, str(incident))
        suggested = suggestion(one, known, selectors, settings.kind, audit=audit)
        if suggested.why_none:
            terminal.say(f"sidelong: no policy of kind {settings.kind}: {suggested.why_none}")
            return BREAKS_SOMETHING
        told = [f"Suggested by sidelong for incident {one.id}."]
    else:
        suggested = _least(workload, known, selectors, settings, audit=audit)
        told = [f"What {workload} needs, by the baseline {Path(baseline).name}: sidelong policy."]
    told += notes(suggested, selectors)
    sys.stdout.write(policy_text(suggested.policies, told))
    sys.stdout.flush()
    return _report(suggested, known, selectors, settings, found, terminal)


def read_incidents(path: str) -> dict[str, Incident]:
    """The last state of each incident in a file of JSON lines, by id.

    Errors: ConfigError, naming the line that is no incident.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="check the path") from error
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            incident = msgspec.json.decode(line, type=Incident)
        except msgspec.MsgspecError as error:
            raise ConfigError(
                f"line {number} of {path} is no incident: {error}",
                hint="make the file with: sidelong replay INPUT --output json",
            ) from error
        found[incident.id] = incident
    return found


def _with(settings: PolicySettings, given: Mapping[str, Any]) -> PolicySettings:
    chosen = {name: value for name, value in given.items() if value}
    return msgspec.structs.replace(settings, **chosen)


def _chosen(found: Mapping[str, Incident], id: str) -> Incident:
    if not found:
        raise ConfigError(
            "there is no incident to choose from",
            hint="give --incidents FILE, as made by: sidelong replay INPUT --output json",
        )
    if id not in found:
        some = ", ".join(list(found)[:3])
        raise ConfigError(f"no incident {id!r} is there", hint=f"there are {some}")
    return found[id]


def _least(
    workload: str,
    known: Acquaintances,
    selectors: Selectors,
    settings: PolicySettings,
    *,
    audit: bool,
) -> Suggestion:
    if workload_parts(workload) is None:
        raise ConfigError(f"{workload!r} is no workload", hint="give it as namespace/name")
    if workload in selectors.host_network:
        raise ConfigError(
            f"{workload} is on the network of its node, where no policy selects a pod",
            hint="guard the node, with a CiliumClusterwideNetworkPolicy and its nodeSelector",
        )
    if selectors.of(workload) is None:
        raise ConfigError(
            f"the name of {workload} is too long to be the value of a label",
            hint="give the labels of its pods with --manifests",
        )
    needs = known.needs(workload, selectors)
    if needs.is_empty:
        raise ConfigError(
            f"the baseline knows nothing of {workload}",
            hint="check the name, or learn from traffic in which it takes part",
        )
    made = allow_list(needs, selectors, settings.kind)
    policies = (on_trial(made) if audit else made,)
    return Suggestion(policies=policies, subjects=(workload,), on_trial=audit)


def _report(
    suggested: Suggestion,
    known: Acquaintances,
    selectors: Selectors,
    settings: PolicySettings,
    found: Mapping[str, Incident],
    terminal: Terminal,
) -> int:
    """Say what the policy, once it is in force, does to the baseline and to the incidents."""
    policies = [_in_force(one) if suggested.on_trial else one for one in suggested.policies]
    habits = pl.concat([habitual(known, one, selectors) for one in suggested.subjects])
    good = passes(policies, habits, selectors)
    broken = habits.filter(~good)
    terminal.say(
        f"tried on {plural(habits.height, 'connection')} of the baseline: "
        f"{'lets all of them through' if broken.is_empty() else f'breaks {broken.height:,}'}"
    )
    _list(habits.filter(good, pl.col("name").is_null()), "allows", terminal)
    _list(broken, "BREAKS", terminal)
    if settings.kind == "kubernetes":
        for workload in suggested.subjects:
            for line in widened(known.needs(workload, selectors), selectors):
                terminal.say(f"  wider than needed: {line}")
    for incident in found.values():
        tried = attempted(incident, known, selectors)
        if not tried.is_empty() and _concerns(incident, suggested.subjects):
            stopped = int((~passes(policies, tried, selectors)).sum())
            what = (
                "blocks" if stopped == tried.height else "blocks part of" if stopped else "misses"
            )
            terminal.say(f"  {what}  {incident.id}  {headline(incident).plain}")
    return FITS if broken.is_empty() else BREAKS_SOMETHING


def _concerns(incident: Incident, subjects: Collection[str]) -> bool:
    ends = {incident.actor.workload, *(target.workload for target in incident.objects)}
    return not ends.isdisjoint(subjects)


def _in_force(policy: Mapping[str, Any]) -> Mapping[str, Any]:
    if policy["kind"] != "CiliumNetworkPolicy":
        return policy
    spec = {key: value for key, value in policy["spec"].items() if key != "enableDefaultDeny"}
    return {**policy, "spec": spec}


def _list(rows: pl.DataFrame, what: str, terminal: Terminal) -> None:
    told = rows.with_columns(
        port=pl.when(pl.col("protocol") == "ICMP").then(None).otherwise("port")
    ).unique(maintain_order=True)
    for actor, peer, object_, port, protocol, name, _ in told.head(_TOLD).iter_rows():
        where = peer if object_ in (None, peer) else object_
        where = where if port is None else f"{where}:{port}"
        asked = f", asking {name}" if name else ""
        terminal.say(f"  {what}  {printable(f'{actor} -> {where}/{protocol}{asked}')}")
    if told.height > _TOLD:
        terminal.say(f"  {what}  {told.height - _TOLD:,} more")
