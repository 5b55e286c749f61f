"""How far a case is read is shown in a notebook, and its output is the same each time."""

from typing import Any

import nbformat
from nbclient import NotebookClient
from shop_case import TEST, shop_baseline


def test_a_notebook_shows_one_line_that_ends_the_same() -> None:
    lines = f"import sidelong\ncase = sidelong.open({TEST!r}, baseline={shop_baseline()!r})"
    cells = [lines, "case.flows('24c7')", "case.timeline('24c7')"]
    make: Any = nbformat.v4  # bears no types
    notebook = make.new_notebook(cells=[make.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=240).execute()
    opened, flows, timeline = (
        [output["data"] for output in cell["outputs"]] for cell in notebook["cells"]
    )
    assert [data["text/html"] for data in opened] == [
        "<small>replaying: 17,036 flows over 2 min 17 s "
        "(2026-11-23 02:18:07Z to 2026-11-23 02:20:24Z)</small>"
    ]
    assert "looking for flows: " in flows[0]["text/html"]
    assert "<table>" in flows[1]["text/html"]
    assert "<svg" in timeline[0]["text/html"]
