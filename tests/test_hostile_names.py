"""Names that an attacker chose come out harmless in every form an alert goes out in."""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from alert_forms import CHATS, FORMS, HOSTILE, hostile, message, shop_incidents, strings
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from sidelong.alerts.plain_text import (
    LONGEST,
    cef_header,
    cef_value,
    fitted,
    harmless,
    html_text,
    length,
    markdown,
    plain,
    slack,
    structured,
)
from sidelong.alerts.receiver_apprise import apprise_text

# Where a text has lines: the policy, and what is joined of lines.
LINES = re.compile(r"policy$|remediation\.desc$|^\.text$|^\[\]$|blocks\[\]\.text\.text$")
INVISIBLE = set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}
MENTION = re.compile(r"@(?:here|channel|everyone|all)\b", re.IGNORECASE)
LABELS = ("team", "cluster")

anything = st.text(max_size=400) | st.text(
    alphabet="<>&@{}[]()|=\\\"'*_`~#!-\n\r\x1b\u202e\u200b aA0.:/$%", max_size=400
)


def told(form: str, name: str) -> Any:
    return FORMS[form]([hostile(name)], dict.fromkeys(LABELS, name))


def wrong_in(payload: Any) -> list[tuple[str, str]]:
    """Texts with characters that do not show as what they are, or of no end."""
    found = []
    for where, text in strings(payload):
        seen = text.replace("\n", "") if LINES.search(where) else text
        if not seen.isprintable() or INVISIBLE & set(seen) or len(text) > 16_500:
            found.append((where, text[:80]))
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_every_character_shows_and_every_text_ends(form: str, name: str) -> None:
    assert wrong_in(told(form, name)) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_payload_is_bounded_whatever_is_in_it(form: str, name: str) -> None:
    assert len(json.dumps(told(form, name), ensure_ascii=False).encode()) < 400_000


@pytest.mark.parametrize("form", CHATS)
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_nobody_is_mentioned(form: str, name: str) -> None:
    payload = told(form, name)
    if form == "pagerduty":
        payload = payload[0]["payload"]["summary"]
    assert [text for _, text in strings(payload) if MENTION.search(text)] == []


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_slack_gets_no_control_sequence(name: str) -> None:
    payload = told("slack", name)
    assert [text for _, text in strings(payload) if "<" in text or ">" in text] == []
    loose = r"&(?!(?:amp|lt|gt);)"
    assert [text for _, text in strings(payload) if re.search(loose, text)] == []


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_slack_reads_foreign_text_as_plain_text_only(name: str) -> None:
    kinds = {part["type"] for part in texts_of(told("slack", name)["blocks"])}
    assert kinds == {"plain_text"}


def texts_of(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    parts = []
    for block in blocks:
        parts += [block["text"]] if "text" in block else []
        parts += block.get("fields", []) + block.get("elements", [])
    return parts


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_teams_reads_foreign_text_as_runs_without_functions(name: str) -> None:
    body = told("teams", name)["attachments"][0]["content"]["body"]
    assert {block["type"] for block in body} == {"RichTextBlock"}
    assert [text for _, text in strings(body) if "{{" in text] == []


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_html_holds_no_tag_but_ours(name: str) -> None:
    _, body = apprise_text(message([hostile(name)], {"team": name}), "html")
    assert tags(body) <= {"br"}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_markdown_shows_every_character_and_makes_nothing_of_any(name: str) -> None:
    _, body = apprise_text(message([hostile(name)], {"team": name}), "markdown")
    assert tags(MarkdownIt("gfm-like", {"linkify": False}).render(body)) <= {"p", "br"}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_cef_says_what_was_meant_and_nothing_else(name: str) -> None:
    (line,) = told("syslog", name)
    header, extension = parsed_cef(line)
    honest = set(parsed_cef(FORMS["syslog"]([shop_incidents()[0]], {"team": "x"})[0])[1])
    assert header[:3] == ["CEF:0", "sidelong", "sidelong"]
    assert header[4] == "scan"
    assert set(extension) <= honest
    assert extension["externalId"] == shop_incidents()[0].id


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_syslog_is_one_message_of_its_form(name: str) -> None:
    (line,) = told("syslog", name)
    assert "\n" not in line
    assert re.match(
        r"<132>1 2026-11-23T02:30:00\.000Z watcher sidelong - open "
        r'\[origin software="sidelong" swVersion="[0-9.]+"\] CEF:0\|',
        line,
    )
    assert len(line.encode()) <= 8_192


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_labels_of_an_alert_are_those_of_prometheus(name: str) -> None:
    alerts = FORMS["alertmanager"]([hostile(name)], {name: name, "severity": "info"})
    for alert in alerts:
        assert all(re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", label) for label in alert["labels"])
        assert alert["labels"]["severity"] == "medium"


@pytest.mark.parametrize("form", ["ecs", "ocsf"])
def test_what_is_no_address_is_in_no_field_for_addresses(form: str) -> None:
    found = [
        text
        for where, text in strings(told(form, "not an address"))
        if where.endswith(".ip") and ".sidelong." not in where
    ]
    assert found == []


@pytest.mark.parametrize("form", FORMS)
@given(name=anything)
@settings(max_examples=15, deadline=None)
def test_whatever_the_name_every_character_shows(form: str, name: str) -> None:
    assert wrong_in(told(form, name)) == []
    json.dumps(told(form, name)).encode()


@given(text=st.text(max_size=700))
def test_plain_is_the_same_applied_twice_and_bounded(text: str) -> None:
    once = plain(text)
    assert plain(once) == once
    assert len(once) <= LONGEST
    assert once.isprintable()


@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_what_shows_anyway_stays_as_it_is(text: str) -> None:
    if text.isprintable() and not INVISIBLE & set(text) and not re.search("[᠋-᠏]", text):
        assert plain(text) == text


def test_an_incident_of_ordinary_names_stays_as_it_is() -> None:
    for incident in shop_incidents():
        assert harmless(incident) == incident


def test_half_a_policy_is_none() -> None:
    (scan, *_) = shop_incidents()
    assert harmless(replace(scan, policy="kind: x\n" * 5_000)).policy is None


@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C", "Z"])))
def test_markdown_shows_the_text_as_it_is(text: str) -> None:
    shown = MarkdownIt("commonmark").renderInline(markdown(text))
    assert html.unescape(shown).replace("\uff20", "@") == text.replace("\uff20", "@")


@given(text=st.text(alphabet="a<>&\"'", max_size=60), longest=st.integers(1, 40))
def test_a_text_is_cut_before_it_is_escaped(text: str, longest: int) -> None:
    cut = fitted(text, longest, html_text)
    assert length(cut) <= longest
    shown = html.unescape(cut)
    assert text.startswith(shown.removesuffix("…"))


@given(text=anything)
def test_slack_text_says_the_same(text: str) -> None:
    assert html.unescape(slack(text)).replace("\uff20", "@") == html.unescape(
        html.escape(text, quote=False)
    ).replace("\uff20", "@")


@given(text=anything)
def test_cef_is_read_back(text: str) -> None:
    flat = re.sub("[\r\n]", " ", text)
    line = f"CEF:0|a|b|c|d|{cef_header(text)}|5|msg={cef_value(text)}"
    header, extension = parsed_cef(line)
    assert header[5] == flat
    assert extension == {"msg": text}


@given(text=anything)
def test_structured_data_is_read_back(text: str) -> None:
    assert re.sub(r"\\(.)", r"\1", structured(text), flags=re.DOTALL) == text
    assert not re.search(r'(?<!\\)(?:\\\\)*["\]]', structured(text))


def tags(body: str) -> set[str]:
    found: set[str] = set()

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            found.add(tag)

    Parser().feed(body)
    return found


def parsed_cef(line: str) -> tuple[list[str], Mapping[str, str]]:
    """Header and extension, by the rules of CEF, strictly."""
    text = line[line.index("CEF:") :]
    parts = re.split(r"(?<!\\)((?:\\\\)*)\|", text, maxsplit=7)
    fields = [parts[i] + (parts[i + 1] if i + 1 < len(parts) else "") for i in range(0, 14, 2)]
    header = [re.sub(r"\\([\\|])", r"\1", field) for field in fields]
    rest = parts[14]
    keys = list(re.finditer(r"(?:^| )([A-Za-z0-9]+)=", rest))
    real = [key for key in keys if not rest[: key.end() - 1].endswith("\\")]
    extension = {}
    for number, key in enumerate(real):
        end = real[number + 1].start() if number + 1 < len(real) else len(rest)
        value = rest[key.end() : end]
        assert not re.search(r"(?<!\\)(?:\\\\)*=", value), value
        extension[key[1]] = re.sub(
            r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), value
        )
    return header, extension
