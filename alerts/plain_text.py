"""Text that others chose, made harmless for every place it is shown in.

Names in telemetry are chosen by whoever sends the traffic: a DNS name or a path may hold an escape
sequence that repaints a terminal, a mark that reverses the text after it, a mention that wakes a
whole channel, markup, or a megabyte. `harmless` makes an incident's strings printable and bounded,
once and for every format; each format then escapes what is special in it, with the functions here.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sidelong.alerts.incident import Actor, Incident, Observation, Target

__all__ = [
    "LONGEST",
    "card",
    "cef_header",
    "cef_value",
    "fitted",
    "harmless",
    "html_text",
    "label_names",
    "length",
    "markdown",
    "plain",
    "printable",
    "printable_json",
    "slack",
    "structured",
    "unmentioning",
]

LONGEST: Final = 512
"""How long one name, path or observation may be; a DNS name has at most 253 characters."""

_SENTENCE: Final = 2_000
_POLICY: Final = 16_000
_MOST: Final = 25  # entries of any list; incidents hold at most 20
_SHOWN: Final = 200

# Unicode calls them letters, marks or symbols, and yet they show nothing.
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_MENTION: Final = re.compile(r"@(?=(?:channel|everyone|here|all|group|room)\b)", re.IGNORECASE)
_MARKDOWN: Final = re.compile(
    r"[\\`*_{}\[\]()<>#|~&$^!@]"  # anywhere
    r"|^[-+=]|(?<=^\d)[.]|(?<=^\d\d)[.]|(?<=www)[.]"  # where a list, a heading or a link begins
    r"|:(?=//)|(?<=:)/(?=/)"
)


def printable(text: str, longest: int = _SHOWN) -> str:
    r"""The text with every character that is not printable written as an escape, cut to `longest`.

    >>> printable("a\x1b[2Jb\u202ec")
    'a\\x1b[2Jb\\u202ec'
    """
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable_json(line: str) -> str:
    r"""The same JSON value, with what is not printable inside its strings written as \uXXXX."""
    if line.isprintable():
        return line
    return re.sub(r"[^ -~]", lambda match: _json_escaped(match[0]), line)


def _json_escaped(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def plain(text: str, longest: int = LONGEST) -> str:
    r"""One line of at most `longest` characters, each of which shows, in the order it is stored.

    Control characters, line ends, marks of direction, what has no width and halves of surrogate
    pairs are written as escapes. Applied twice it is what it is applied once.

    >>> plain("pay\u202ebad\n")
    'pay\\u202ebad\\x0a'
    """
    shown = printable(text, longest)
    shown = _INVISIBLE.sub(lambda found: _escaped(found[0]), shown)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def harmless(incident: Incident) -> Incident:
    """The incident with each of its strings plain and bounded, and its lists bounded.

    What of a suggested policy cannot be shown whole is left out, for half a policy means another.
    """
    policy = incident.policy
    if policy is not None:
        lines = [plain(line, 2_000) for line in policy[: _POLICY + 1].split("\n")]
        policy = "\n".join(lines) if len(policy) <= _POLICY else None
    return replace(
        incident,
        id=plain(incident.id, 128),
        story=plain(incident.story, 128),
        actor=Actor(
            plain(incident.actor.workload),
            _plain(incident.actor.pod),
            _plain(incident.actor.ip),
        ),
        objects=tuple(_target(target) for target in incident.objects[:_MOST]),
        counts={plain(name): count for name, count in list(incident.counts.items())[:_MOST]},
        techniques=tuple(plain(technique, 16) for technique in incident.techniques[:_MOST]),
        evidence=tuple(
            Observation(
                plain(part.feature), plain(part.observed), plain(part.expected), part.log_evidence
            )
            for part in incident.evidence[:_MOST]
        ),
        summary=plain(incident.summary, _SENTENCE),
        policy=policy,
    )


def _target(target: Target) -> Target:
    return Target(_plain(target.workload), _plain(target.ip), target.port, _plain(target.domain))


def _plain(text: str | None) -> str | None:
    return None if text is None else plain(text)


def length(text: str) -> int:
    """Characters as those count them whose limits are meant: in units of UTF-16."""
    return len(text) + sum(character > "\uffff" for character in text)


def fitted(text: str, longest: int, escape: Callable[[str], str] = str) -> str:
    """`text`, escaped, and cut before so that the outcome has at most `longest` characters.

    >>> fitted("a<<<b", 6, html_text)
    'a&lt;…'
    """
    text = text[:longest]
    whole = escape(text)
    if length(whole) <= longest:
        return whole
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if length(escape(text[:middle])) <= longest - 1 else (low, middle - 1)
        )
    return escape(text[:low]) + "…"


def unmentioning(text: str) -> str:
    """Without mentions of everybody in a channel: the @ is a wide one, which no chat reads as such.

    >>> unmentioning("hello @here, ops@hereford").isascii()
    False
    """
    return _MENTION.sub("\N{FULLWIDTH COMMERCIAL AT}", text)


def slack(text: str) -> str:
    """For Slack's texts, mrkdwn and plain: no link, no mention, no date.

    >>> slack("<!channel> & co")
    '&lt;!channel&gt; &amp; co'
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return unmentioning(text)


def markdown(text: str) -> str:
    """For Markdown: every character shows as it is (CommonMark, section 2.4).

    >>> markdown("[a](b) *c*")
    '\\\\[a\\\\]\\\\(b\\\\) \\\\*c\\\\*'
    """
    return _MARKDOWN.sub(r"\\\g<0>", unmentioning(text.lstrip()))


def card(text: str) -> str:
    """For Adaptive Cards where they know no Markdown: without functions such as {{DATE(...)}}.

    >>> card("{{{x}}")
    '{ { {x}}'
    """
    return re.sub(r"\{(?=\{)", "{ ", unmentioning(text))


def html_text(text: str) -> str:
    """For HTML, between tags and in quoted attributes."""
    return html.escape(unmentioning(text), quote=True)


def cef_header(text: str) -> str:
    r"""For the header of CEF.

    >>> cef_header("a|b\\c")
    'a\\|b\\\\c'
    """
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\r", " ").replace("\n", " ")


def cef_value(text: str) -> str:
    r"""For a value of a CEF extension.

    >>> cef_value("a=b\n")
    'a\\=b\\n'
    """
    text = text.replace("\\", "\\\\").replace("=", "\\=")
    return text.replace("\r", "\\r").replace("\n", "\\n")


def structured(text: str) -> str:
    r"""For a value of structured data in syslog (RFC 5424, section 6.3.3).

    >>> structured('a"b]')
    'a\\"b\\]'
    """
    return re.sub(r'[\\"\]]', r"\\\g<0>", text)


def label_names(labels: Mapping[str, str], taken: Sequence[str] = ()) -> dict[str, str]:
    """Labels under names that Prometheus takes, without empty ones and without those `taken`.

    >>> label_names({"app.team": "pay", "9": "x", "kind": "mine"}, taken=("kind",))
    {'app_team': 'pay', '_9': 'x'}
    """
    named = {
        re.sub(r"[^a-zA-Z0-9_]", "_", f"_{name}" if name[:1].isdigit() else name)[:128]: value
        for name, value in labels.items()
    }
    return {
        name: plain(value) for name, value in named.items() if name and value and name not in taken
    }
