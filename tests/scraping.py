"""Asking a health server over a socket, and reading what Prometheus would."""

import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Answered", "asked", "problems", "raw", "samples"]

SECONDS: Final = 10
_DURATIONS: Final = ("_ms", "_minutes", "_milliseconds", "_hours")


class Answered(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: str


def asked(port: int, path: str, method: str = "GET", body: bytes | None = None) -> Answered:
    """One request, as a well-behaved client makes it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, headers, answer.read().decode())
    finally:
        connection.close()


def raw(port: int, sent: bytes) -> bytes:
    """All that is answered to some bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        connection.sendall(sent)
        parts = []
        try:
            while part := connection.recv(1 << 16):
                parts.append(part)
        except ConnectionResetError:
            pass  # it did not read on
        return b"".join(parts)


def samples(scraped: bytes | str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Each sample by its name and labels."""
    text = scraped.decode() if isinstance(scraped, bytes) else scraped
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def problems(scraped: bytes) -> Iterator[str]:
    """What `promtool check metrics` would object to, and what it does not look at."""
    seen: set[str] = set()
    for family in text_string_to_metric_families(scraped.decode()):
        name = family.name
        if name in seen:
            yield f"{name} comes twice"
        seen.add(name)
        if not family.documentation:
            yield f"{name} has no help"
        if not re.fullmatch("[a-z][a-z0-9_]*", name) or "__" in name:
            yield f"{name} is no good name"
        if family.type != "counter" and name.endswith(("_total", "_count", "_sum", "_bucket")):
            yield f"{name} ends like something else"
        if family.type == "counter" and not all(s.name.endswith("_total") for s in family.samples):
            yield f"{name} does not end in _total"
        if name.endswith(_DURATIONS) or "kilo" in name or "mega" in name:
            yield f"{name} is in no base unit"
        if family.type in name.split("_"):
            yield f"{name} says its type"
        places = [frozenset(sample.labels.items()) for sample in family.samples]
        names = [(sample.name, place) for sample, place in zip(family.samples, places, strict=True)]
        if len(set(names)) < len(names):
            yield f"{name} has a sample twice"
