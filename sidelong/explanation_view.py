"""An explanation on a screen, in a pipe, in a notebook: the same parts in the same order."""

import io
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sidelong.case_frames import escaped
from sidelong.explanation import Explanation
from sidelong.terminal import printable

__all__ = ["as_html", "as_text", "show"]

_WIDTH: Final = 100
_LONGEST: Final = 600
_CELL: Final = 80
_STYLES: Final = {
    "info": "dim",
    "low": "cyan",
    "medium": "yellow",
    "high": "bold red",
    "critical": "bold white on red",
}


def show(explanation: Explanation, console: Console) -> None:
    """Print it for a person: coloured on a terminal, plain in a pipe."""
    if console.is_terminal:
        _print(explanation, console)
        return
    console.file.write(as_text(explanation) + "\n")
    console.file.flush()


def _print(one: Explanation, console: Console) -> None:
    console.print(
        Text.assemble(
            (f" {one.severity.upper()} ", _STYLES.get(one.severity, "")),
            "  ",
            (one.kind.replace("_", " "), "bold"),
            f"  {one.id}  {one.status}",
        )
    )
    console.print(Text(_safe(one.sentence), style="bold"))
    console.print()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for name, value in _facts(one):
        facts.add_row(name, Text(_safe(value)))
    console.print(Padding(facts, (0, 0, 1, 2)))
    if one.numbers:
        _heading(console, "Observed against expected")
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for name in ("evidence", "observed", "expected"):
            table.add_column(name, overflow="fold")
        table.add_column("nats", justify="right", no_wrap=True)
        for number in one.numbers:
            table.add_row(
                Text(number.feature.replace("_", " ")),
                Text(printable(number.observed, _CELL)),
                Text(printable(number.expected, _CELL)),
                f"{number.nats:+,.2f}" if number.nats else "",
            )
        console.print(Padding(table, (0, 0, 0, 2)))
        for feature, meaning in _meanings(one):
            console.print(Padding(Text(f"{feature}: {meaning}", style="dim"), (0, 0, 0, 2)))
        console.print()
    for heading, lines in _sections(one):
        if lines:
            _heading(console, heading)
            _bullets(console, lines)
    _heading(console, "What to do next")
    for place, step in enumerate(one.next, 1):
        console.print(Padding(Text(f"{place}. {_safe(step.what)}"), (0, 0, 0, 2)))
        if step.command:
            # Not wrapped: it is to be copied.
            line = Text(f"     {_safe(step.command)}", style="cyan")
            console.print(line, soft_wrap=True)
    if one.policy:
        console.print()
        _heading(console, "The smallest policy that would have stopped it")
        for written in one.policy.splitlines():
            console.print(Text(f"  {printable(written, 400)}"), soft_wrap=True)


def as_text(explanation: Explanation) -> str:
    """As plain text, a hundred characters wide."""
    file = io.StringIO()
    console = Console(
        file=file,
        width=_WIDTH,
        force_jupyter=False,  # or a kernel would show each line by itself
        highlight=False,
        markup=False,
        emoji=False,
        color_system=None,
    )
    _print(explanation, console)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def as_html(explanation: Explanation) -> str:
    """As HTML without a script, every name in it escaped."""
    one = explanation
    facts = "".join(
        f"<tr><th scope='row' style='text-align:left'>{escaped(name)}</th>"
        f"<td style='text-align:left'>{escaped(value, _LONGEST)}</td></tr>"
        for name, value in _facts(one)
    )
    numbers = "".join(
        "<tr style='overflow-wrap:anywhere;vertical-align:top'>"
        f"<td style='text-align:left'>{escaped(number.feature.replace('_', ' '))}</td>"
        f"<td style='text-align:left'>{escaped(number.observed, _CELL)}</td>"
        f"<td style='text-align:left'>{escaped(number.expected, _CELL)}</td>"
        f"<td style='text-align:right;white-space:nowrap'>"
        f"{f'{number.nats:+,.2f}' if number.nats else ''}</td>"
        f"<td style='text-align:left'>{escaped(number.meaning, _LONGEST)}</td></tr>"
        for number in one.numbers
    )
    heads = "".join(
        f"<th scope='col'>{name}</th>" for name in ("evidence", "observed", "expected", "nats", "")
    )
    parts = [
        f"<h4>{escaped(one.severity.upper())} {escaped(one.kind.replace('_', ' '))} "
        f"<code>{escaped(one.id)}</code></h4>",
        f"<p><strong>{escaped(one.sentence, 2_000)}</strong></p>",
        f"<table><tbody>{facts}</tbody></table>",
        f"<h5>Observed against expected</h5><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{numbers}</tbody></table>",
    ]
    for heading, lines in _sections(one):
        if lines:
            parts.append(f"<h5>{escaped(heading)}</h5><ul>{_items(lines)}</ul>")
    steps = "".join(
        f"<li>{escaped(step.what, _LONGEST)}"
        + (f"<br><code>{escaped(step.command, _LONGEST)}</code>" if step.command else "")
        + "</li>"
        for step in one.next
    )
    parts.append(f"<h5>What to do next</h5><ol>{steps}</ol>")
    if one.policy:
        text = "\n".join(escaped(line, 400) for line in one.policy.splitlines())
        parts.append(
            "<details><summary>The smallest policy that would have stopped it</summary>"
            f"<pre><code>{text}</code></pre></details>"
        )
    return f"<div class='sidelong'>{''.join(parts)}</div>"


def _facts(one: Explanation) -> list[tuple[str, str]]:
    who = one.actor["workload"] or "?"
    behind = [value for value in (one.actor["pod"], one.actor["ip"]) if value]
    more = len(one.objects) - 6
    towards = ", ".join(one.objects[:6]) + (f" and {more:,} more" if more > 0 else "")
    facts = [
        ("who", f"{who} ({', '.join(behind)})" if behind else who),
        ("towards", towards or "nobody that could be named"),
        ("detected", one.detected_at),
        ("seen", f"{one.first_seen} to {one.last_seen}"),
        ("evidence", f"{one.nats:,.2f} nats, {one.threshold:.2f} are enough"),
    ]
    for technique in one.techniques:
        tactic = f" ({technique['tactic']})" if technique["tactic"] else ""
        facts.append(("MITRE ATT&CK", f"{technique['name']}{tactic}  {technique['url'] or ''}"))
    return facts


def _sections(one: Explanation) -> Iterable[tuple[str, Sequence[str]]]:
    return (
        ("The sums, to be done by hand", one.arithmetic),
        ("Flows that brought the evidence", one.flows),
        ("The same story", one.story),
        ("What could not be seen", one.unseen),
    )


def _meanings(one: Explanation) -> Iterable[tuple[str, str]]:
    told = {
        number.feature.replace("_", " "): number.meaning for number in one.numbers if number.meaning
    }
    return told.items()


def _items(lines: Iterable[str]) -> str:
    return "".join(f"<li>{escaped(line, _LONGEST)}</li>" for line in lines)


def _heading(console: Console, text: str) -> None:
    console.print(Text(text, style="bold underline"))


def _bullets(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        grid = Table.grid(padding=(0, 1))
        grid.add_row("  -", Text(_safe(line), overflow="fold"))
        console.print(grid)
    console.print()


def _safe(text: str) -> str:
    return printable(text, _LONGEST)
