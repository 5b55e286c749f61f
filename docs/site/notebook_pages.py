"""Notebooks as pages: run where nothing else is, then turned into Markdown with their outputs.

    .venv/bin/python docs/site/notebook_pages.py --to build/notebooks

runs all of notebooks/, two at a time, and keeps what came of each. `make site` does so first;
without it pages show the notebooks without outputs.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import nbformat

__all__ = ["NOTEBOOKS", "executed", "placed", "rendered"]

ROOT: Final = Path(__file__).resolve().parents[2]
NOTEBOOKS: Final = tuple(sorted((ROOT / "notebooks").glob("*.ipynb")))

_AT_ONCE: Final = 2
_SECONDS: Final = 300  # a cell may take, on a machine of CI that has other things to do
_PATH: Final = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

Output = MutableMapping[str, Any]


def executed(notebook: Path, to: Path) -> Path:
    """Run a notebook in a folder that holds it and the examples, and nothing else; returns where
    the result is. Errors: nbclient.exceptions.CellExecutionError."""
    from nbclient import NotebookClient  # not needed to show what was run before

    book = _read(notebook)
    with tempfile.TemporaryDirectory() as place:
        Path(place, "examples").symlink_to(ROOT / "examples")
        Path(place, "notebooks").mkdir()
        os.environ["PATH"] = _PATH  # for cells that type commands
        NotebookClient(
            book, timeout=_SECONDS, resources={"metadata": {"path": str(Path(place, "notebooks"))}}
        ).execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # when it was run
        if cell.cell_type == "code":
            cell.outputs = _settled(cell.outputs)
    to.mkdir(parents=True, exist_ok=True)
    path = to / notebook.name
    nbformat.write(book, path)
    return path


def _settled(outputs: list[Output]) -> list[Output]:
    """What does not depend on when it came: all that was printed, as one output for each stream."""
    printed: dict[str, Output] = {}
    kept: list[Output] = []
    for output in outputs:
        if output["output_type"] == "stream":
            first = printed.setdefault(output["name"], output)
            if first is not output:
                first["text"] += output["text"]
        else:
            kept.append(output)
    return [*(printed[name] for name in sorted(printed, reverse=True)), *kept]  # stdout first


def _read(notebook: Path) -> Any:
    return nbformat.read(notebook, as_version=4)


def rendered(notebook: Path) -> tuple[str, list[str]]:
    """The Markdown of a notebook, and the outputs in HTML that stand at `OUTPUT-0`, ... in it."""
    shown: list[str] = []
    parts: list[str] = []
    for cell in _read(notebook).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        language = "sh" if cell.source.startswith("%%sh") else "python"
        parts.append(_block(language, cell.source))
        for text, is_html in _outputs(cell.outputs):
            if is_html:
                parts.append(f'<div class="output">OUTPUT-{len(shown)}.</div>')
                shown.append(text)
            else:
                parts.append(_block("text", text))
    # Outputs are wide, and a notebook is short enough to do without a table of contents.
    return "\n\n".join(["---\nhide: [toc]\n---", *parts]) + "\n", shown


def _outputs(outputs: list[Output]) -> Iterator[tuple[str, bool]]:
    """Each output, and whether it is HTML; what was printed piece by piece is one."""
    printed = ""
    for output in outputs:
        if output["output_type"] == "stream":
            printed += output["text"]
            continue
        if printed:
            yield printed, False
            printed = ""
        data = output["data"]
        if "image/svg+xml" in data:
            yield f'<div role="img" aria-label="Chart">{data["image/svg+xml"]}</div>', True
        elif "text/html" in data:
            yield data["text/html"], True
        else:
            yield data["text/plain"], False
    if printed:
        yield printed, False


def _block(language: str, text: str) -> str:
    return f"~~~~ {language}\n{text.rstrip()}\n~~~~"


def placed(page: str, shown: list[str]) -> str:
    """The page with its outputs in their places."""
    for number, output in enumerate(shown):
        page = page.replace(f"OUTPUT-{number}.", output)
    return page


def main() -> int:
    """Run all of them, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="such as 1-triage; all by default")
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "notebooks")
    options = parser.parse_args()
    chosen = [one for one in NOTEBOOKS if not options.names or one.stem in options.names]
    shutil.rmtree(options.to, ignore_errors=True)
    with ProcessPoolExecutor(_AT_ONCE) as pool:
        for path in pool.map(partial(executed, to=options.to), chosen):
            print(f"ran {path.stem}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
