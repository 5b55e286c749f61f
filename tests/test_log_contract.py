"""Sources of flow logs, put to the rules of source_contract.py."""

import gzip
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

import log_samples as samples
import pytest
from source_contract import RULES, Case

from sidelong.ingest.csv_flows import CsvLines
from sidelong.ingest.csv_settings import CsvSettings
from sidelong.ingest.files import InputFile
from sidelong.ingest.goflow2 import Goflow2Lines
from sidelong.ingest.loki import LokiAnswer
from sidelong.ingest.netobserv import NetObservLines
from sidelong.ingest.nfdump import NfdumpArray
from sidelong.ingest.source import Source
from sidelong.ingest.unordered import HeadedDecoder, UnorderedFile
from sidelong.ingest.vpc_logs import VpcLines
from sidelong.ingest.zeek_lines import ZeekLines
from sidelong.ingest.zeek_logs import ZeekLog, ZeekLogs

SMALL: Final = {"rows_per_batch": 50, "held_rows": 50}
DECODERS: Final[dict[str, Callable[[], AbstractContextManager[HeadedDecoder]]]] = {
    "zeek": ZeekLines,
    "zeek json": ZeekLines,
    "netobserv": NetObservLines,
    "goflow2": Goflow2Lines,
    "vpc": VpcLines,
    "csv": lambda: CsvLines(CsvSettings(columns=samples.CSV_COLUMNS, time_unit="s")),
}


class Trickle(io.BytesIO):
    """Gives a few bytes at a time, as a pipe does."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(1_000)


def written(folder: Path, content: bytes, cut: int) -> dict[str, InputFile]:
    parts = {"whole": content, "empty": b"", "damaged": content[:-cut]}
    for name, part in parts.items():
        (folder / name).write_bytes(part)
    return {name: InputFile(str(folder / name)) for name in parts}


def case(files: dict[str, InputFile], make: Callable[..., Source]) -> Case:
    return Case(
        small=partial(make, files["whole"], **SMALL),
        large=partial(make, files["whole"]),
        empty=partial(make, files["empty"]),
        damaged=partial(make, files["damaged"], **SMALL),
    )


def file_of_lines(name: str, folder: Path) -> Case:
    def make(file: InputFile, **sizes: int) -> Source:
        block = {"block_bytes": 4_000} if sizes else {}
        return UnorderedFile(
            file.name, file.open, file.size_bytes, DECODERS[name], **sizes, **block
        )

    return case(written(folder, samples.FORMATS[name], cut=20), make)


def pipe_of_lines(name: str, folder: Path) -> Case:
    content = samples.FORMATS[name]

    def make(content: bytes, block_bytes: int) -> Source:
        return UnorderedFile(
            "standard input",
            lambda: Trickle(content),
            None,
            DECODERS[name],
            block_bytes=block_bytes,
        )

    return Case(
        small=partial(make, content, 4_000),
        large=partial(make, content, 16 << 20),
        empty=partial(make, b"", 4_000),
        damaged=partial(make, content[:-20], 4_000),
    )


def logs_of_zeek(name: str, folder: Path) -> Case:
    """A folder of two logs, of text and of JSON."""
    for part, end in {"whole": None, "damaged": -20}.items():
        (folder / part).mkdir()
        (folder / part / "conn.log").write_bytes(samples.ZEEK)
        (folder / part / "dns.log.gz").write_bytes(gzip.compress(samples.ZEEK_JSON)[:end])
    (folder / "empty").mkdir()
    (folder / "empty" / "conn.log").write_bytes(b"#path\tconn\n#close\t2025-11-24\n")

    def make(part: str, **sizes: int) -> Source:
        files = [InputFile(str(path)) for path in sorted((folder / part).iterdir())]
        logs = [ZeekLog(file.name, file.open, file.size_bytes or 0) for file in files]
        return ZeekLogs(str(folder / part), logs, **sizes)

    return Case(
        small=partial(make, "whole", block_bytes=4_000, **SMALL),
        large=partial(make, "whole"),
        empty=partial(make, "empty"),
        damaged=partial(make, "damaged", **SMALL),
    )


def answer_of_loki(name: str, folder: Path) -> Case:
    def make(file: InputFile, **sizes: int) -> Source:
        return LokiAnswer(file.name, file.open, file.size_bytes, NetObservLines, **sizes)

    return case(written(folder, samples.LOKI, cut=20), make)


def array_of_nfdump(name: str, folder: Path) -> Case:
    def make(file: InputFile, **sizes: int) -> Source:
        return NfdumpArray(file.name, file.open, file.size_bytes, **sizes)

    return case(written(folder, samples.NFDUMP, cut=20), make)


CASES: Final = {
    **{f"{name}, a file": (file_of_lines, name) for name in DECODERS},
    **{f"{name}, a pipe": (pipe_of_lines, name) for name in DECODERS},
    "zeek, a folder": (logs_of_zeek, ""),
    "loki": (answer_of_loki, ""),
    "nfdump": (array_of_nfdump, ""),
}


@pytest.fixture(scope="module", params=list(CASES.values()), ids=list(CASES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    make, name = request.param
    source: Case = make(name, tmp_path_factory.mktemp("source"))
    return source


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_flow_log_holds_to_the_contract(made: Case, rule: Callable[[Case], None]) -> None:
    rule(made)
