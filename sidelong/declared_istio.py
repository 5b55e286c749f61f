"""AuthorizationPolicy (security.istio.io/v1) as rules.

What depends on a request or a token may hold: it narrows no ALLOW, and makes no DENY.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sidelong.declared_objects import Workload, inner
from sidelong.declared_rules import Rule, Selection, Span
from sidelong.declared_selectors import Population

__all__ = ["authorization_policy"]

_ROOT: Final = "istio-system"
_TCP: Final = (Span("TCP", 0, 65_535),)
_JUDGED: Final = {"principals", "notPrincipals", "namespaces", "notNamespaces"}
_ADDRESSES: Final = {"ipBlocks", "remoteIpBlocks"}  # those of pods are not declared
_PORTS: Final = {"ports"}


def authorization_policy(
    policy: Mapping[str, Any], people: Population
) -> Iterator[Selection | Rule]:
    """What an AuthorizationPolicy says; nothing if it is for gateways, or only watches."""
    spec = inner(policy, "spec")
    action = spec.get("action") or "ALLOW"
    if action not in ("ALLOW", "DENY") or "targetRefs" in spec or "targetRef" in spec:
        return
    namespace = str(inner(policy, "metadata").get("namespace") or "default")
    subjects = people.everybody() if namespace == _ROOT else people.inside(namespace)
    subjects &= people.pods(spec.get("selector"))
    if action == "ALLOW":
        yield Selection("istio", "ingress", subjects)
    for rule in spec.get("rules") or ():
        if action == "DENY" and not _is_plain(rule):
            continue
        fars = people.everybody()
        if rule.get("from"):
            sources = [inner(one, "source") for one in rule["from"]]
            fars = people.where(lambda one: any(_is_source(one, each) for each in sources))  # noqa: B023, called here
        yield Rule("istio", "ingress", subjects, fars, _ports(rule), action == "DENY")


def _is_plain(rule: Mapping[str, Any]) -> bool:
    """Whether it speaks of identities and ports alone."""
    sources = [inner(one, "source").keys() for one in rule.get("from") or ()]
    operations = [inner(one, "operation").keys() for one in rule.get("to") or ()]
    return (
        not rule.get("when")
        and all(keys <= _JUDGED for keys in sources)
        and all(keys <= _PORTS for keys in operations)
    )


def _is_source(one: Workload, source: Mapping[str, Any]) -> bool:
    if source.keys() & _ADDRESSES:
        return False
    principal = f"cluster.local/ns/{one.namespace}/sa/{one.account}"
    for value, here, but in (
        (principal, source.get("principals"), source.get("notPrincipals")),
        (one.namespace, source.get("namespaces"), source.get("notNamespaces")),
    ):
        if (here and not _matches(value, here)) or (but and _matches(value, but)):
            return False
    return True


def _matches(value: str, patterns: Sequence[str]) -> bool:
    """Istio lets an asterisk stand before or behind. A trust domain of another name is ours."""
    return any(_is_like(value, str(pattern)) for pattern in patterns)


def _is_like(value: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value in (pattern, f"cluster.local/{pattern.partition('/')[2]}")


def _ports(rule: Mapping[str, Any]) -> tuple[Span, ...]:
    operations = [inner(one, "operation") for one in rule.get("to") or ()]
    if not operations:
        return _TCP
    found: list[Span] = []
    for one in operations:
        numbers = [int(port) for port in one.get("ports") or () if str(port).isdigit()]
        found += [Span("TCP", number, number) for number in numbers] if numbers else _TCP
    return tuple(found)
