"""Lines of many messages, decoded together by format, each flow with the place it comes from.

Decoding a message for itself would cost a millisecond. So lines are joined, as if they were a file,
and decoded in one go; the decoders say which line a flow comes from, and of a bad one why.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Final, Protocol

import numpy as np

from sidelong.ingest.envoy_logs import envoy_json, envoy_lines
from sidelong.ingest.goflow2 import Goflow2Lines
from sidelong.ingest.hubble_json import HubbleLines
from sidelong.ingest.line_files import Decoded
from sidelong.ingest.lines import LONGEST_LINE, Block
from sidelong.ingest.linkerd_logs import linkerd_json, linkerd_lines
from sidelong.ingest.netobserv import NetObservLines
from sidelong.ingest.nfdump import NfdumpLines
from sidelong.ingest.raw_gathering import Gathering, Told, placed
from sidelong.ingest.schema import LINE
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.zeek_lines import ZeekLines
from sidelong.ingest.ztunnel_logs import ztunnel_json, ztunnel_lines

__all__ = ["LINE_FORMATS", "JoinedLines"]


class _Decoder(Protocol):
    def decode(self, block: Block) -> Decoded: ...


_DECODERS: Final[Mapping[str, Callable[[InputSettings], AbstractContextManager[_Decoder]]]] = {
    "hubble": lambda _: HubbleLines(),
    "netobserv": lambda _: NetObservLines(),
    "goflow2": lambda _: Goflow2Lines(),
    "nfdump": lambda _: NfdumpLines(),
    "zeek": lambda _: ZeekLines(),
    "envoy": lambda settings: envoy_lines(settings.envoy),
    "envoy-json": lambda settings: envoy_json(settings.envoy),
    "linkerd": lambda settings: linkerd_lines(settings.linkerd),
    "linkerd-json": lambda settings: linkerd_json(settings.linkerd),
    "ztunnel": lambda _: ztunnel_lines(),
    "ztunnel-json": lambda _: ztunnel_json(),
}

LINE_FORMATS: Final = tuple(_DECODERS)
"""The formats of which each line stands for itself."""


class JoinedLines(Gathering):
    """Takes lines and decodes them when there are enough. Use as a context manager.

    Errors: ConfigError for settings of a log format that cannot be used, when it is made.
    """

    def __init__(self, settings: InputSettings) -> None:
        super().__init__()
        self._settings: Final = settings
        self._open: Final = ExitStack()
        self._decoders: Final[dict[str, _Decoder]] = {}
        for name in ("envoy", "envoy-json"):
            _DECODERS[name](settings)

    def __enter__(self) -> "JoinedLines":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, format: str, place: int, content: bytes) -> None:
        """Take a line, without its newline, that is not blank."""
        if len(content) > LONGEST_LINE:
            self.fault(place, f"longer than {LONGEST_LINE >> 20} MiB")
        else:
            super().add(format, place, content)

    def decoded(self, format: str, contents: Sequence[bytes], places: Sequence[int]) -> Told:
        """What lines of a format say."""
        content = b"\n".join([*contents, b""])
        block = Block(0, len(content), content, len(contents), numbered=True)
        found = self._decoder(format).decode(block)
        at = np.array(places, np.uint64)
        flows = placed(found.flows, at, LINE) if found.flows.height else None
        if not found.faults:
            return Told(flows)
        starts = np.cumsum([0, *(len(line) + 1 for line in contents)])
        lines = np.searchsorted(starts, [start for start, _ in found.faults])
        reasons = zip(at[lines].tolist(), found.faults, strict=True)
        return Told(flows, [(place, why) for place, (_, why) in reasons])

    def _decoder(self, format: str) -> _Decoder:
        decoder = self._decoders.get(format)
        if decoder is None:
            opened = _DECODERS[format](self._settings)
            decoder = self._decoders[format] = self._open.enter_context(opened)
        return decoder
