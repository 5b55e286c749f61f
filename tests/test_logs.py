"""The log of the service: read by people and machines, without secrets, and never a flood."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import pytest

from sidelong.log_repeats import MOST_OF_A_PLACE
from sidelong.logs import LogOutput, logging_to_stderr

LOG: Final = logging.getLogger("sidelong.somewhere")


class Written(io.StringIO):
    """A stream, and the clock of whoever writes to it."""

    now = 0.0

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@contextmanager
def logged(style: Literal["text", "json"] = "json") -> Iterator[Written]:
    written = Written()
    with LogOutput(style, written, ticks=lambda: written.now):
        yield written


def test_a_line_of_json_is_one_object_with_time_level_logger_and_message() -> None:
    with logged() as written:
        LOG.warning("no %s answers", "broker")
    (said,) = written.objects
    moment = datetime.fromisoformat(said.pop("time"))
    assert abs(datetime.now(UTC) - moment) < timedelta(seconds=10)
    assert said == {
        "level": "warning",
        "logger": "sidelong.somewhere",
        "message": "no broker answers",
    }


def test_role_and_fields_are_members_of_their_own() -> None:
    with logged() as written:
        LOG.info("read", extra={"role": "detect", "partition": 3, "why": ["a"]})
    (said,) = written.objects
    assert said["role"] == "detect"
    assert said["fields"] == {"partition": 3, "why": "['a']"}


def test_an_exception_keeps_its_traceback_in_one_line_of_json() -> None:
    with logged() as written:
        try:
            raise ValueError("two\nlines")
        except ValueError:
            LOG.exception("it failed")
    (said,) = written.objects
    assert said["exception"].startswith("Traceback")
    assert said["exception"].endswith("ValueError: two\nlines")


def test_text_says_when_how_bad_and_who() -> None:
    with logged("text") as written:
        LOG.warning("no broker answers", extra={"role": "detect", "partition": 3})
        LOG.info("watched")
    first, second = (line.partition(" ")[2] for line in written.lines)
    assert first == "warning detect: no broker answers partition=3"
    assert second == "info    somewhere: watched"


@pytest.mark.parametrize("style", ["text", "json"])
def test_what_others_chose_cannot_forge_a_line_or_paint_the_terminal(
    style: Literal["text", "json"],
) -> None:
    with logged(style) as written:
        LOG.info("name %s", "a\n2026-11-24T00:00:00.000Z error x: forged\x1b[2J\u202e\ud800")
    assert len(written.lines) == 1
    assert written.lines[0].isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hunter2@host/path",
        "Authorization: Bearer hunter2hunter2",
        "Basic hunter2hunter2==",
        "password=hunter2",
        '{"api_key": "hunter2"}',
        "token='hunter2 hunter2'",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    with logged() as written:
        LOG.info("said %s", text, extra={"given": text})
        try:
            raise RuntimeError(text)
        except RuntimeError:
            LOG.exception("failed")
    assert "hunter2" not in written.getvalue()
    assert "***" in written.getvalue()


def test_the_same_is_said_once_and_then_every_half_minute_with_a_count() -> None:
    with logged() as written:
        for second in range(61):
            written.now = second
            LOG.warning("no broker answers", extra={"role": "detect"})
    assert [said.get("repeated") for said in written.objects] == [None, 29, 29]


def test_the_same_of_another_role_is_another_message() -> None:
    with logged() as written:
        for role in ("detect", "deliver"):
            LOG.warning("no broker answers", extra={"role": role})
    assert len(written.lines) == 2


def test_what_differs_is_the_same_where_the_caller_says_so() -> None:
    with logged() as written:
        for pause in (1, 2, 4, 8):
            LOG.warning("again in %d s", pause, extra={"same": "no broker"})
    assert len(written.lines) == 1
    assert "fields" not in written.objects[0]


def test_one_place_cannot_fill_the_disk_with_ever_new_messages() -> None:
    def flood() -> None:
        for number in range(1_000):
            LOG.warning("message %d is damaged", number)

    with logged() as written:
        flood()
        LOG.warning("another place is heard")
        assert len(written.lines) == MOST_OF_A_PLACE + 1
        written.now = 31
        flood()
    assert written.objects[MOST_OF_A_PLACE + 1]["repeated"] == 1_000 - MOST_OF_A_PLACE


def test_what_was_left_out_is_counted_for_metrics() -> None:
    with LogOutput("json", io.StringIO()) as output:
        for _ in range(5):
            LOG.warning("again")
        assert output.counters() == {"log_dropped": 4}


def test_libraries_are_heard_when_something_is_wrong_and_warnings_are_logged() -> None:
    with logged() as written:
        logging.getLogger("grpc").info("noise")
        logging.getLogger("urllib3.connectionpool").warning("noise")
        logging.getLogger("asyncio").warning("heard")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", UserWarning, stacklevel=1)
    assert [said["logger"] for said in written.objects] == ["asyncio", "py.warnings"]


def test_levels_and_handlers_are_as_before_once_it_is_closed() -> None:
    def state() -> list[object]:
        root = logging.getLogger()
        return [root.level, list(root.handlers), logging.getLogger("sidelong").level]

    before = state()
    with logged() as written:
        assert state() != before
    assert state() == before
    LOG.error("after")
    assert written.lines == []


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_has_gone_stops_nothing() -> None:
    with LogOutput("text", Gone()):
        LOG.warning("into the void")


def test_a_message_that_is_wrong_itself_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    written = Written()
    with LogOutput("text", written) as output:
        output.handle(logging.makeLogRecord({"msg": "%d", "args": ("text",)}))
    assert written.lines == []
    assert "Logging error" in capsys.readouterr().err


def test_standard_error_is_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr("text"):
        LOG.info("hello")
    captured = capsys.readouterr()
    assert captured.err.endswith("somewhere: hello\n")
    assert captured.out == ""
