"""AuthorizationPolicy (security.istio.io/v1): who may call a workload, by proven identity.

It judges TCP and HTTP on the server's side, and knows callers by the service account in their
certificate, whatever trust domain they come from. A caller outside the mesh has none.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sidelong.alerts.policy_names import Far, Selectors, digest, object_name, workload_parts
from sidelong.alerts.policy_needs import Need, Needs, Ports

__all__ = ["istio_allow_list", "istio_deny_paths"]

_API: Final = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"}


def istio_allow_list(needs: Needs, selectors: Selectors) -> dict[str, Any]:
    """Lets in who called the workload before, on those ports."""
    own = {"from": [{"source": {"principals": [_principal(needs.workload, selectors)]}}]}
    rules = [own, *_rules(needs.ingress, selectors)]
    return _policy(needs.workload, selectors, ("needs",), {"action": "ALLOW", "rules": rules})


def istio_deny_paths(
    actor: str, target: str, paths: Sequence[str], selectors: Selectors
) -> dict[str, Any]:
    """Refuses these paths of `target` to `actor`, or every request where no path is given."""
    rule: dict[str, Any] = {"from": [{"source": {"principals": [_principal(actor, selectors)]}}]}
    if paths:
        rule["to"] = [{"operation": {"paths": list(paths)}}]
    return _policy(target, selectors, ("deny", digest(rule)), {"action": "DENY", "rules": [rule]})


def _policy(
    workload: str, selectors: Selectors, what: Sequence[str], spec: dict[str, Any]
) -> dict[str, Any]:
    namespace, name = workload_parts(workload) or ("", "")
    metadata: dict[str, Any] = {
        "name": object_name("sidelong", name, *what),
        "namespace": namespace,
    }
    return {
        **_API,
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": selectors.of(workload) or {}}, **spec},
    }


def _principal(workload: str, selectors: Selectors) -> str:
    namespace = (workload_parts(workload) or ("", ""))[0]
    return f"{selectors.trust_domain}/ns/{namespace}/sa/{selectors.account(workload)}"


def _rules(needs: Iterable[Need], selectors: Selectors) -> list[dict[str, Any]]:
    """Exact ports only: a range of ports is said by leaving them out, to callers with a name."""
    together: dict[tuple[Ports, ...], list[Far]] = {}
    for need in needs:
        ports = tuple(one for one in need.ports if one.protocol == "TCP")
        if not _is_told(need.far, selectors):
            ports = tuple(one for one in ports if one.first == one.last)
        if ports:
            together.setdefault(ports, []).append(need.far)
    rules = []
    for ports, ends in together.items():
        where = {}
        if all(one.first == one.last for one in ports):
            where = {"to": [{"operation": {"ports": [str(one.first) for one in ports]}}]}
        rules += [{**source, **where} for source in _sources(ends, selectors)]
    return rules


def _sources(fars: Sequence[Far], selectors: Selectors) -> list[dict[str, Any]]:
    """Who: by certificate, by address, or, of what has neither here, anybody."""
    if not all(_is_told(far, selectors) for far in fars):
        return [{}]
    principals = [_principal(far.name, selectors) for far in fars if far.kind == "pods"]
    blocks = [far.name for far in fars if far.kind == "network"]
    blocks += selectors.nodes if any(far.kind == "nodes" for far in fars) else ()
    sources = []
    if principals:
        sources.append({"source": {"principals": list(dict.fromkeys(principals))}})
    if blocks:
        sources.append({"source": {"ipBlocks": blocks}})
    return [{"from": sources}]


def _is_told(far: Far, selectors: Selectors) -> bool:
    return far.kind in ("pods", "network") or (far.kind == "nodes" and bool(selectors.nodes))
