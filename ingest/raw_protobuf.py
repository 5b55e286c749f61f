"""Protobuf of many messages, and exports of OTLP in either form, decoded together."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sidelong.ingest.flow_records import agent_flows, sampled_flows
from sidelong.ingest.hubble_protobuf import HubbleDecoder
from sidelong.ingest.otlp_logs import OtlpDecoder
from sidelong.ingest.otlp_records import Export, RecordReader
from sidelong.ingest.raw_gathering import Gathering, Told, placed
from sidelong.ingest.raw_kinds import line_format
from sidelong.ingest.raw_lines import LINE_FORMATS, JoinedLines
from sidelong.ingest.raw_values import Unreadable
from sidelong.ingest.schema import LINE
from sidelong.ingest.settings import InputSettings

__all__ = ["JoinedMessages"]

_NUMBER: Final = "message"


class JoinedMessages(Gathering):
    """Takes messages and decodes them when there are enough.

    lines: is given what shippers put as lines into exports of OTLP, to be taken afterwards.
    """

    def __init__(self, settings: InputSettings, lines: JoinedLines) -> None:
        super().__init__()
        self._lines: Final = lines
        self._hubble: Final = HubbleDecoder("it", fast=settings.hubble.fast)
        self._otlp: Final = OtlpDecoder(settings.envoy)
        self._records: Final = RecordReader()

    def decoded(self, format: str, contents: Sequence[bytes], places: Sequence[int]) -> Told:
        """What messages of a format say."""
        at = np.array(places, np.uint64)
        match format:
            case "hubble-protobuf":
                return self._of_hubble(contents, at)
            case "goflow2-protobuf" | "netobserv-protobuf":
                read = sampled_flows if format == "goflow2-protobuf" else agent_flows
                found = read(contents)
                flows = placed(found.flows, at, LINE) if found.flows.height else None
                return Told(flows, [(places[number], why) for number, why in found.faults])
        return self._of_otlp(contents, at, json=format == "otlp-json")

    def _of_hubble(self, contents: Sequence[bytes], places: NDArray[np.uint64]) -> Told:
        found = self._hubble.decode(contents, most_faults=len(contents))
        faults = [(int(places[number]), why) for number, why in found.faults]
        if not found.rows.height:
            return Told(None, faults)
        flows = found.flows().with_columns(found.rows[_NUMBER])
        return Told(placed(flows, places, _NUMBER), faults)

    def _of_otlp(
        self, contents: Sequence[bytes], places: NDArray[np.uint64], *, json: bool
    ) -> Told:
        """A topic of logs holds all sorts of them: what is no access log is passed over."""
        exports = [self._records.read(content, json=json) for content in contents]
        faults = [
            (int(places[number]), export.fault)
            for number, export in enumerate(exports)
            if export.fault
        ]
        exports = [self._without_lines(*each) for each in zip(exports, places, strict=True)]
        found, _ = self._otlp.flows(exports, numbered=True)
        flows = placed(found.flows, places, LINE) if found.flows.height else None
        return Told(flows, faults, found.bad - len(faults))

    def _without_lines(self, export: Export, place: np.uint64) -> Export:
        """The export without records whose body is a line of another format, as a shipper has it.

        Envoy's JSON stays: attributes may say more of it.
        """
        kept = []
        for number, record in enumerate(export.records):
            if record.line is not None:
                try:
                    format, line = line_format(record.line.encode())
                except Unreadable:
                    format, line = "", b""
                if format in LINE_FORMATS and not format.startswith("envoy"):
                    self._lines.add(format, int(place) + number, line)
                    continue
            kept.append(record)
        return export if len(kept) == len(export.records) else export._replace(records=kept)
