"""The notebooks: kept without outputs, run on what ships with sidelong, the same each time."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from peers.chromium_peer import Chromium

ROOT: Final = Path(__file__).resolve().parent.parent
NOTEBOOKS: Final = sorted((ROOT / "notebooks").glob("*.ipynb"))
LOOKED_AT: Final = ("1-triage", "3-slow-dns")
"""Between them every kind of output: tables, sums, the map, both kinds of charts, a policy."""

TOLD: Final = {
    "1-triage": ("4 incidents in 17,036 flows", "14.73", "sidelong-postgres-deny-ingress"),
    "2-what-changed": ("payments/gateway", "shop/postgres:5432", "edges on trial"),
    "3-slow-dns": ("0 incidents in", "evil.example", ">1344<"),
    "4-alarm-budget": ("instead of", "2 suppressed"),
    "5-pcap-to-policy": ("3 incidents in 2,927 flows", "sidelong-payments-dns", "knows DNS names"),
}
"""What their prose speaks of, which nobody reads again when the program changes."""


def read(notebook: Path) -> dict[str, Any]:
    book: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return book


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_what_a_run_leaves(notebook: Path) -> None:
    book = read(notebook)
    for cell in book["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert book["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_written_so_that_a_change_shows_as_one(notebook: Path) -> None:
    """Ids that stay and are words, and one way to write the file."""
    book = read(notebook)
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(name.replace("-", "").isalpha() for name in ids)
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    written = json.dumps(book, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert notebook.read_text(encoding="utf-8") == written


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_and_holds_no_logic(notebook: Path) -> None:
    code = [cell for cell in read(notebook)["cells"] if cell["cell_type"] == "code"]
    lines = [line.strip() for cell in code for line in cell["source"]]
    assert len(lines) < 80
    assert not [line for line in lines if line.startswith(("def ", "class ", "while ", "try:"))]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_links_to_is_there(notebook: Path) -> None:
    text = "".join(
        line
        for cell in read(notebook)["cells"]
        if cell["cell_type"] == "markdown"
        for line in cell["source"]
    )
    links = re.findall(r"\]\(([^)#]+)", text)
    assert [link for link in links if not (notebook.parent / link).exists()] == []


def run(to: Path) -> Mapping[str, str]:
    """All of them run anew, as `make site` does it; what came of each."""
    ran = subprocess.run(
        [sys.executable, ROOT / "docs" / "site" / "notebook_pages.py", "--to", to],
        env={name: value for name, value in os.environ.items() if name[:9] != "SIDELONG_"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return {path.stem: path.read_text(encoding="utf-8") for path in to.glob("*.ipynb")}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebooks")
    run(folder)
    return folder


@pytest.mark.slow
def test_every_notebook_runs_twice_to_the_same_output(executed: Path, tmp_path: Path) -> None:
    first = {path.stem: path.read_text(encoding="utf-8") for path in executed.glob("*.ipynb")}
    assert sorted(first) == [path.stem for path in NOTEBOOKS]
    again = run(tmp_path / "again")
    for name, text in first.items():
        assert again[name] == text, name


@pytest.mark.slow
def test_what_notebooks_tell_of_is_what_they_show(executed: Path) -> None:
    for name, words in TOLD.items():
        text = (executed / f"{name}.ipynb").read_text(encoding="utf-8")
        assert [word for word in words if word not in text] == [], name


@pytest.fixture(scope="module")
def site(executed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "SIDELONG_NOTEBOOKS": str(executed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_notebook_is_a_page_of_the_site_with_its_outputs(
    site: Path, chromium: Chromium, name: str
) -> None:
    chromium.inspect(site / "notebooks" / f"{name}.html", f"notebook-{name}")
