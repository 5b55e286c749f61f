"""Logs in OpenTelemetry's form (OTLP), of which those are read that are Envoy's access logs.

A record tells of a request in its attributes, in a body of keys and values or of JSON, or in a body
of text in Envoy's format; as Istio sends it, in attributes and in text. Attributes count before
text, for they cannot be mistaken; text is read where they leave something open.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from sidelong.ingest.envoy_exchanges import ENVOY_FIELDS, envoy_flows
from sidelong.ingest.envoy_logs import EnvoySettings, envoy_keys, envoy_text, placed
from sidelong.ingest.envoy_operators import ISTIO_KEYS
from sidelong.ingest.envoy_reporter import Reporter
from sidelong.ingest.line_files import SAMPLES, Decoded, LineDecoding
from sidelong.ingest.lines import Block
from sidelong.ingest.otlp_records import Export, OtlpRecord, RecordReader
from sidelong.ingest.schema import LINE, empty_flows

__all__ = ["OtlpDecoder", "OtlpLines"]

_TIME: Final = "%Y-%m-%dT%H:%M:%S%.9fZ"


class OtlpDecoder:
    """Decodes exports, each for itself. Errors: ConfigError for settings that cannot be used."""

    def __init__(self, settings: EnvoySettings) -> None:
        self._settings = settings
        self._keys, self._read_labels = envoy_keys(settings)
        self._read_text = envoy_text(settings)
        others = ISTIO_KEYS.keys() - {"downstream_direct_remote"}  # which Istio does not print
        self._every_key = frozenset(self._keys[field] for field in others)

    def flows(
        self, exports: Sequence[Export], *, numbered: bool = False
    ) -> tuple[Decoded, list[int]]:
        """The flows of all; and for each how many of its records are no access logs.

        Faults are numbered by the exports, and so are flows in `LINE` if they are to be `numbered`;
        then there are all faults. An export that is none counts as one bad row.
        """
        most = None if numbered else SAMPLES
        faults = [(number, export.fault) for number, export in enumerate(exports) if export.fault]
        records = [record for export in exports for record in export.records]
        bad, rejected = len(faults), [0] * len(exports)
        if not records:
            return Decoded(empty_flows(), bad, tuple(faults[:most])), rejected
        entries = self._entries(records)
        odd = entries["fault"].is_not_null().arg_true()
        of = [number for number, export in enumerate(exports) for _ in export.records]
        if numbered:
            entries = entries.with_columns(pl.Series(LINE, of, dtype=pl.UInt32))
        if len(odd):
            usable = entries["usable"]
            for row in odd:
                rejected[of[row]] += not usable[row]
            faults += [(of[row], entries["fault"][row]) for row in odd[:most]]
            entries = entries.filter("usable")
            faults.sort(key=lambda fault: fault[0])
        flows = envoy_flows(placed(entries, self._settings))
        return Decoded(flows, bad + len(odd), tuple(faults[:most])), rejected

    def _entries(self, records: Sequence[OtlpRecord]) -> pl.DataFrame:
        """`ENVOY_FIELDS`, `fault` and `usable`, a row for each record."""
        entries = self._read_labels(self._labels(records))
        wanting = [
            row
            for row, record in enumerate(records)
            if record.text and not self._every_key <= record.labels.keys()
        ]
        if wanting:
            texts = pl.Series([records[row].text for row in wanting], dtype=pl.String)
            told = self._read_text(texts.str.strip_chars_end("\r\n"))
            entries = _both(entries, told, wanting)
        times = pl.Series([record.time for record in records], dtype=pl.Int64)
        reporters = pl.DataFrame(
            [record.reporter for record in records],
            schema=dict.fromkeys(Reporter._fields, pl.String),
            orient="row",
        )
        return _with_reporters(_precise(entries, times), reporters)

    def _labels(self, records: Sequence[OtlpRecord]) -> pl.DataFrame:
        """Texts by field. A record without a start time in its labels has its own."""
        columns = {
            field: pl.Series([record.labels.get(key) for record in records], dtype=pl.String)
            for field, key in self._keys.items()
        }
        frame = pl.DataFrame(columns)
        if self._settings.time_format is None:
            times = pl.Series([record.time or None for record in records], dtype=pl.Int64)
            own = times.cast(pl.Datetime("ns")).dt.strftime(_TIME)
            missing = pl.col("start_time").is_null() | (pl.col("start_time") == "-")
            frame = frame.with_columns(
                start_time=pl.when(missing).then(own).otherwise("start_time")
            )
        return frame


class OtlpLines(LineDecoding):
    """Decodes lines of OTLP's JSON, as OpenTelemetry's collector writes them to a file."""

    def __init__(self, settings: EnvoySettings) -> None:
        self._reader = RecordReader()
        self._decoder = OtlpDecoder(settings)

    def decode(self, block: Block) -> Decoded:
        """The flows of a block of lines; a record that is no access log counts as a bad line."""
        lines, starts = block.lines()
        exports = [self._reader.read(line, json=True) for line in lines]
        decoded, _ = self._decoder.flows(exports, numbered=block.numbered)
        return decoded._replace(faults=tuple((starts[at], why) for at, why in decoded.faults))


def _both(entries: pl.DataFrame, told: pl.DataFrame, rows: Sequence[int]) -> pl.DataFrame:
    """The entries with what the text of those at `rows` tells beside their labels."""
    at = pl.DataFrame({"row": rows}, schema={"row": pl.UInt32})
    beside = told.select(pl.all().name.suffix("_told")).with_columns(at["row"])
    names = [name for name in told.columns if name in ENVOY_FIELDS]
    joined = entries.with_row_index("row").join(beside, on="row", how="left").sort("row")
    read = pl.col("usable_told").fill_null(False)
    merged = {}
    for name in names:
        of_labels = [pl.col(name)] if name in entries.columns else []
        of_text = [pl.col(f"{name}_told")]
        # For want of a time of their own, labels have that of the record.
        merged[name] = pl.coalesce(
            of_text + of_labels if name == "start_time" else of_labels + of_text
        )
    # Labels that are of no access log do not spoil a text that is, nor the other way round.
    fault = (
        pl.when(pl.col("usable"))
        .then(pl.col("fault"))
        .when(read)
        .then("fault_told")
        .otherwise(pl.coalesce("fault_told", "fault"))
    )
    return joined.select(
        *(name for name in entries.columns if name not in {*names, "fault", "usable"}),
        **merged,
        fault=fault,
        usable=pl.col("usable") | read,
    )


def _precise(entries: pl.DataFrame, times: pl.Series) -> pl.DataFrame:
    """The entries with the record's own time where text told the same to the millisecond."""
    own = times.replace(0, None).cast(ENVOY_FIELDS["start_time"]).alias("own")
    finer = pl.col("own") - pl.col("start_time")
    same = (finer >= pl.duration(nanoseconds=0)) & (finer < pl.duration(milliseconds=1))
    return (
        entries.with_columns(own)
        .with_columns(start_time=pl.when(same).then("own").otherwise("start_time"))
        .drop("own")
    )


def _with_reporters(entries: pl.DataFrame, reporters: pl.DataFrame) -> pl.DataFrame:
    return entries.with_columns(
        pl.coalesce(pl.col(name), reporters[name]).alias(name)
        if name in entries.columns
        else reporters[name]
        for name in reporters.columns
    )
