"""Files that say who held an address when: pod maps, what kubectl printed, recorded watches."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import polars as pl

from sidelong.errors import ConfigError
from sidelong.ingest.holdings import POD_SCHEMA, Holding, nanoseconds
from sidelong.ingest.kubernetes_ledger import KINDS, Ledger
from sidelong.ingest.kubernetes_objects import address
from sidelong.ingest.kubernetes_pods import Pod

__all__ = ["ACCOUNTS_SCHEMA", "read_accounts", "read_holders"]

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

_SPACE: Final = re.compile(r"\s*")
_HINT: Final = (
    'write {"cart-0": {"ip": "10.0.0.7", "namespace": "shop", "workload": "cart"}, ...},'
    " or save the output of: kubectl get pods -A -o json"
)


ACCOUNTS_SCHEMA: Final = pl.Schema({"workload": pl.String(), "account": pl.String()})
"""A workload, and the service account that its pods run under, without the namespace."""


def read_accounts(path: Path) -> pl.DataFrame:
    """The service accounts (`ACCOUNTS_SCHEMA`) of the workloads whose pods kubectl printed.

    Of a workload whose pods run under several, as while that is changed, nothing is said; neither
    by a pod map of our own form. Errors: ConfigError, naming file and key.
    """
    documents = _read(path)
    if len(documents) == 1 and not _is_from_kubernetes(documents[0]):
        return ACCOUNTS_SCHEMA.to_frame()
    told = [
        (f"{pod.metadata.namespace}/{pod.workload}", pod.account)
        for document in documents
        for pod in _pods(document)
        if pod.account
    ]
    rows = pl.DataFrame(told, schema=ACCOUNTS_SCHEMA, orient="row").unique()
    return rows.filter(pl.len().over("workload") == 1).sort("workload")


def _pods(document: "_Node") -> Iterator[Pod]:
    """The pods in one document of kubectl."""
    kind = document["kind"].text()
    if kind.endswith("List"):
        default = kind.removesuffix("List") or "Pod"
        items = [(item, item["kind"].text() or default) for item in document["items"].items()]
    elif kind:
        items = [(document, kind)]
    else:
        items = [(document["object"], document["object"]["kind"].text())]
    for item, of in items:
        if of == "Pod":
            yield msgspec.convert(item.value, Pod)


def read_holders(path: Path) -> pl.DataFrame:
    """The holders in a file, as `PodMap.read` understands it, in `POD_SCHEMA`.

    Errors: ConfigError, naming file and key.
    """
    documents = _read(path)
    try:
        return _holders(documents)
    except UnicodeEncodeError as error:  # half a surrogate pair, which JSON can write
        raise ConfigError(f"the pod map {path} holds no text: {error}", hint=_HINT) from error


def _read(path: Path) -> "list[_Node]":
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ConfigError(
            f"the pod map {path} cannot be read: {error.strerror}", hint="check the path"
        ) from error
    except ValueError as error:
        raise ConfigError(f"the pod map {path} is not JSON: {error}", hint=_HINT) from error
    return list(_documents(path, text))


def _holders(documents: Sequence["_Node"]) -> pl.DataFrame:
    if len(documents) == 1 and not _is_from_kubernetes(documents[0]):
        physical = {k: pl.Int64() if v.is_temporal() else v for k, v in POD_SCHEMA.items()}
        rows = list(_declared(documents[0]))
        return pl.DataFrame(rows, schema=physical, orient="row").cast(POD_SCHEMA)
    ledger = Ledger()
    for document in documents:
        _take(ledger, document)
    return ledger.holders()


@dataclass(frozen=True, slots=True)
class _Node:
    """A place in a JSON document, which knows its name when something is wrong with it."""

    path: Path
    key: str
    value: Json

    def wrong(self, expected: str) -> ConfigError:
        seen = json.dumps(self.value)
        seen = seen if len(seen) < 60 else seen[:57] + "..."
        where = self.key or "the document"
        return ConfigError(f"pod map {self.path}: {where} is {seen}, not {expected}", hint=_HINT)

    def fields(self) -> Mapping[str, Json]:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value

    def __getitem__(self, name: str) -> "_Node":
        return _Node(self.path, f"{self.key}.{name}" if self.key else name, self.fields().get(name))

    def items(self) -> Iterator["_Node"]:
        """The elements of a list; none of a null."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        for place, value in enumerate(self.value):
            yield _Node(self.path, f"{self.key}[{place}]", value)

    def text(self) -> str:
        """A string, empty for a null."""
        if not isinstance(self.value, str | None):
            raise self.wrong("a string")
        return self.value or ""

    def address(self) -> str:
        """An address in the form flows carry it."""
        try:
            return address(self.text())
        except ValueError:
            raise self.wrong("an IP address") from None

    def moment(self) -> int | None:
        """A time in nanoseconds, from RFC 3339 or seconds since 1970."""
        if self.value is None:
            return None
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            if abs(self.value) < 2**33:
                return nanoseconds(self.value)
        elif isinstance(self.value, str):
            try:
                given = datetime.fromisoformat(self.value)
            except ValueError:
                pass
            else:
                return nanoseconds(given)
        raise self.wrong("a time, RFC 3339 or seconds since 1970")


def _documents(path: Path, text: str) -> Iterator[_Node]:
    """The JSON documents in a text, one after the other, as kubectl prints what it watches.

    A recording that was cut off in the middle of a document ends before it.
    """
    decoder, start, number = json.JSONDecoder(), _after_space(text, 0), 0
    while not number or start < len(text):
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            if number and text[start] == "{" and "\n{" not in text[start:]:
                return
            raise ConfigError(f"the pod map {path} is not JSON: {error}", hint=_HINT) from error
        yield _Node(path, f"document {number + 1}" if number else "", value)
        start, number = _after_space(text, end), number + 1


def _after_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def _is_from_kubernetes(document: _Node) -> bool:
    """Whether a document is an object, a list of objects or a watch event of Kubernetes."""
    fields = document.fields()
    kind = fields.get("kind")
    if isinstance(kind, str):
        return kind in KINDS or kind.endswith("List")
    return isinstance(fields.get("type"), str) and "object" in fields


def _take(ledger: Ledger, document: _Node) -> None:
    """Take in what one document of kubectl says."""
    kind = document["kind"].text()
    if kind.endswith("List"):
        default = kind.removesuffix("List") or "Pod"
        for item in document["items"].items():
            _put(ledger, item, item["kind"].text() or default)
    elif kind:
        _put(ledger, document, kind)
    else:
        event = document["type"].text()
        if event not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"):
            raise document["type"].wrong("ADDED, MODIFIED or DELETED")
        item = document["object"]
        if event not in ("BOOKMARK", "ERROR"):  # of which neither is an object of the cluster
            _put(ledger, item, item["kind"].text(), deleted=event == "DELETED")


def _put(ledger: Ledger, item: _Node, kind: str, deleted: bool = False) -> None:
    """Take in one object, unless it is of a kind that holds no address."""
    if kind not in KINDS:
        return
    try:
        thing = msgspec.convert(item.value, KINDS[kind])
        (ledger.drop if deleted else ledger.put)(thing)
    except msgspec.ValidationError as error:
        what, _, place = str(error).rpartition(" - at `$")
        where = f"{item.key}{place.rstrip('`')}".lstrip(".")
        raise ConfigError(f"pod map {item.path}: {where}: {what or place}", hint=_HINT) from error
    except ValueError as error:
        where = item.key or "the document"
        raise ConfigError(f"pod map {item.path}: {where}: {error}", hint=_HINT) from error


def _declared(root: _Node) -> Iterator[Holding]:
    """The holdings of a pod map of our own form."""
    holders: dict[tuple[str, int | None], str] = {}
    for entry in root.fields():
        node = root[entry]
        namespace, workload = node["namespace"].text(), node["workload"].text()
        domain = node["domain"].text().rstrip(".").lower()
        since, until = node["from"].moment(), node["until"].moment()
        if since is not None and until is not None and until <= since:
            raise node["until"].wrong(f"after {node.key}.from")
        listed = list(node["ips"].items())
        outside = not namespace or workload == "world"
        if not outside and not workload:
            raise node["workload"].wrong("the name of a workload")
        for place in listed or [node["ip"]]:
            ip = place.address()
            rival = holders.setdefault((ip, since), entry)
            if rival != entry:
                raise ConfigError(
                    f"pod map {root.path}: {rival} and {entry} both hold {ip} at the same time",
                    hint='bound both holdings in time with "from" and "until"',
                )
            if not outside:
                name, pod = f"{namespace}/{workload}", f"{namespace}/{entry}"
                yield Holding(ip, name, namespace, workload, pod, since, until)
            elif domain:
                yield Holding(ip, domain, since=since, until=until)
