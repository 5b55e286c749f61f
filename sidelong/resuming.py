"""Where a source is taken up again after a restart: nothing is missing, nothing is there twice."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import msgspec
import polars as pl

from sidelong.collector import Feed
from sidelong.ingest.flow_folder import FolderState, SourceState
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.known_rows import KnownRows
from sidelong.ingest.line_files import LineFile
from sidelong.ingest.live import is_url
from sidelong.ingest.pcap import PcapFile
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.source import Source
from sidelong.ingest.topic_address import is_topic, topic_address

__all__ = ["Kept", "gone", "lanes_of", "live_feed", "recorded_feed", "resume"]

_NS: Final = 1_000_000_000
_A_TIME: Final = 10**18  # positions beyond are nanoseconds: 2001 and later
_BEFORE_ALL: Final = -(2**62)
_HEAD_BYTES: Final = 4_096
_APPENDED: Final = (LineFile, PcapFile)
"""Files whose positions still hold when something was appended. Others are read in another order
than they were written."""


class Kept(Protocol):
    """Where flows went before: a folder, or a topic. state: how far their sources had come."""

    @property
    def path(self) -> object: ...
    @property
    def state(self) -> FolderState: ...
    def rows_since(self, source: str, time_ns: int) -> Iterator[pl.DataFrame]:
        """What was written of a source at or after a time."""
        ...


def lanes_of(
    inputs: Sequence[str],
    format: str | None,
    settings: InputSettings,
    say: Callable[[str], None] = lambda _: None,
) -> list[list[Feed]]:
    """What is read at the same time: each live source, each partition of a topic, which is
    followed, and all files one after the other.

    say: is told of dead letters that cannot be sent.
    """
    files = [path for path in inputs if not is_url(path)]
    lanes = []
    for url in dict.fromkeys(inputs):
        if is_topic(url):
            lanes += _topic_lanes(url, settings, say)
        elif is_url(url):
            lanes.append([live_feed(source) for source in open_inputs([url], None, settings)])
    if files:
        lanes.append([recorded_feed(source) for source in open_inputs(files, format, settings)])
    return lanes


def _topic_lanes(url: str, settings: InputSettings, say: Callable[[str], None]) -> list[list[Feed]]:
    from sidelong.ingest.message_letters import Letters  # Kafka's client: for topics alone
    from sidelong.ingest.topic_source import partitions_of

    address = topic_address(url, settings.kafka)
    sources = partitions_of(
        address, settings, follow=True, letters=lambda: Letters(address.kafka, say)
    )
    return [[live_feed(source)] for source in sources]


def live_feed(source: Source) -> Feed:
    """A live source, to be called by its URL without who we are."""
    parts = urlsplit(source.name)
    key = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return Feed(key, source, close=getattr(source, "close", None))


def recorded_feed(source: Source) -> Feed:
    """A file or folder, to be called by its path; a pipe is read once and not resumed."""
    path = os.path.realpath(source.name)
    state = SourceState(fingerprint=_fingerprint(path), size_bytes=source.size_bytes)
    return Feed(f"file:{path}", source, state, resumable=state.fingerprint is not None)


def resume(feed: Feed, folder: Kept, overlap_seconds: int) -> str | None:
    """Let the feed go on where what is in the folder ends; returns what to say of that."""
    before = folder.state.sources.get(feed.key)
    if before is None or not feed.resumable:
        return None
    if feed.close is not None:
        _resume_live(feed, before, folder, overlap_seconds * _NS)
        return f"going on with {feed.key} where {folder.path} ends"
    name, path = feed.source.name, feed.key.removeprefix("file:")
    size = (before.fingerprint or "").partition(":")[0]
    same = _fingerprint(path, int(size) if size.isdecimal() else _HEAD_BYTES) == before.fingerprint
    whole = os.path.isdir(path) or (before.size_bytes or 0) <= (feed.source.size_bytes or 0)
    if not os.path.isdir(path) and not (same and whole):
        return f"{name} is another file than the one collected before"
    unchanged = same and before.size_bytes == feed.source.size_bytes
    if unchanged or (same and isinstance(feed.source, _APPENDED)):
        feed.state = msgspec.structs.replace(feed.state, position=before.position)
        return f"going on with {name} where {folder.path} ends"
    feed.known = KnownRows(folder.rows_since(feed.key, _BEFORE_ALL), -_BEFORE_ALL)
    return f"{name} has changed: what {folder.path} has of it already is left out"


def gone(sources: Iterable[str]) -> Iterator[str]:
    """Those of the sources that are files and not there any more, such as rotated logs."""
    for key in sources:
        if key.startswith("file:") and not os.path.exists(key.removeprefix("file:")):
            yield key


def _resume_live(feed: Feed, before: SourceState, folder: Kept, overlap_ns: int) -> None:
    """Go on from where the files end; for a source that resumes by time, from a little before.

    Its flows come nearly in the order of time, not strictly: a node that lagged has earlier ones
    to tell yet. What it tells again is known from the files.
    """
    feed.state = before
    if before.newest_ns is None or is_topic(feed.key):  # which goes on exactly there
        return
    reached = before.newest_ns
    if before.position > _A_TIME:
        reached = min(reached, before.position)
        feed.state = msgspec.structs.replace(before, position=reached - overlap_ns)
    known = folder.rows_since(feed.key, reached - overlap_ns)
    feed.known = KnownRows(known, reached + overlap_ns)


def _fingerprint(path: str, size: int = _HEAD_BYTES) -> str | None:
    """How a file begins, or what a folder lists; None for what cannot be read twice."""
    if os.path.isdir(path):
        names = sorted(f"{entry.name} {entry.stat().st_size}" for entry in os.scandir(path))
        listed = "\n".join(names).encode(errors="replace")
        return f"folder:{hashlib.sha256(listed).hexdigest()}"
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        head = file.read(size)
    return f"{len(head)}:{hashlib.sha256(head).hexdigest()}"
