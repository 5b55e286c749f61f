"""Live sources by URL: what is asked for flows, and what listens for them."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

from sidelong.errors import ConfigError
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.source import Source
from sidelong.ingest.topic_address import TOPIC_SCHEMES, is_followed, is_topic, topic_address

__all__ = ["SCHEMES", "LiveSource", "is_live", "is_url", "open_live"]


class LiveSource(Source, Protocol):
    """A source without an end, which yields a batch at least once a second, if only an empty one.

    `size_bytes` is None. A source that fails for a while goes on by itself and counts that.
    """

    def close(self) -> None:
        """Let `batches` end soon; may be called from another thread, and twice."""
        ...

    def counters(self) -> Mapping[str, int]:
        """What has happened so far, by name: received, duplicates, reconnects, lost, ..."""
        ...


def _hubble(url: str, settings: InputSettings) -> LiveSource:
    from sidelong.ingest.hubble_live import open_hubble  # gRPC: not for a replay

    return open_hubble(url, settings.hubble)


def _als(url: str, settings: InputSettings) -> LiveSource:
    from sidelong.ingest.als_live import open_als

    return open_als(url, settings.als)


def _otlp(url: str, settings: InputSettings) -> LiveSource:
    from sidelong.ingest.otlp_live import open_otlp

    return open_otlp(url, settings.otlp, settings.envoy)


def _otlp_http(url: str, settings: InputSettings) -> LiveSource:
    from sidelong.ingest.otlp_live import open_otlp_http

    return open_otlp_http(url, settings.otlp, settings.envoy)


def _kafka(url: str, settings: InputSettings) -> LiveSource:
    from sidelong.ingest.topic_source import TopicFollowed  # Kafka's client: for topics alone

    return TopicFollowed(topic_address(url, settings.kafka), settings)


_OPEN: Final[dict[str, Callable[[str, InputSettings], LiveSource]]] = {
    "als": _als,
    "hubble": _hubble,
    "hubble+tls": _hubble,
    "hubble+unix": _hubble,
    **dict.fromkeys(TOPIC_SCHEMES, _kafka),
    "otlp": _otlp,
    "otlp+http": _otlp_http,
}

SCHEMES: Final = tuple(_OPEN)
"""What a URL may begin with."""


def is_url(path: str) -> bool:
    """Whether an input or a target is named by a URL rather than by a path."""
    return "://" in path


def is_live(path: str) -> bool:
    """Whether an input has no end: URLs, but for topics that are not followed."""
    return is_url(path) and not (is_topic(path) and not is_followed(path))


def open_live(url: str, settings: InputSettings) -> LiveSource:
    """The live source at `url`; nothing is asked of it yet.

    Errors: ConfigError for an unknown scheme, or for a URL that its source cannot use.
    """
    scheme = urlsplit(url).scheme
    if scheme not in _OPEN:
        raise ConfigError(
            f"{url} begins with {scheme}://, which is no live source",
            hint=f"one of {', '.join(f'{name}://' for name in SCHEMES)}",
        )
    return _OPEN[scheme](url, settings)
