"""Policies as the YAML that a person reads and applies, with how to check it on top.

Manifests go through PyYAML. Comments hold nothing but what is printable, a line each, so that no
name in traffic can end one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sidelong.alerts.policy_names import Selectors, workload_parts

__all__ = ["checks", "policy_text"]

_MOST_CHECKS: Final = 8
_WIDTH: Final = 100


def policy_text(policies: Sequence[Mapping[str, Any]], notes: Iterable[str] = ()) -> str:
    """One YAML document a policy, below the notes as comments."""
    import yaml

    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    documents = [
        yaml.dump(
            _unshared(policy),
            Dumper=dumper,
            sort_keys=False,
            default_flow_style=False,
            width=_WIDTH,
        )
        for policy in policies
    ]
    return "".join(f"# {_line(note)}\n" for note in notes) + "---\n".join(documents)


def checks(workloads: Iterable[str], selectors: Selectors) -> list[str]:
    """Commands that show whether the labels by which workloads are selected are those of pods."""
    told = dict.fromkeys(one for one in workloads if selectors.of(one) is not None)
    lines = []
    for workload in list(told)[:_MOST_CHECKS]:
        namespace = (workload_parts(workload) or ("", ""))[0]
        labels = ",".join(f"{key}={value}" for key, value in (selectors.of(workload) or {}).items())
        lines.append(f"  kubectl get pods -n {namespace} -l {labels}")
    if len(told) > _MOST_CHECKS:
        lines.append(f"  and {len(told) - _MOST_CHECKS:,} more")
    return lines


def _unshared(value: Any) -> Any:
    """A copy in which nothing stands twice: YAML would write anchors."""
    if isinstance(value, Mapping):
        return {key: _unshared(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_unshared(inner) for inner in value]
    return value


def _line(note: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in note)
