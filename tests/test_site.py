"""The documentation as a site: built strictly, read from a disk, without a network."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from peers.chromium_peer import Chromium

ROOT: Final = Path(__file__).resolve().parent.parent
LOOKED_AT: Final = ("index", "alerts", "threats")
"""Between them what pages are made of: tables, blocks, long words."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the pages, notebooks not run; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={
            **os.environ,
            "NO_MKDOCS_2_WARNING": "1",
            "SIDELONG_NOTEBOOKS": str(folder / "none"),  # whatever was run here before
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_is_part_of_the_site(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").is_file()
    for name in ("example", "changelog", "contributing", "security"):
        assert (site / f"{name}.html").is_file()


def test_what_only_builds_the_site_is_not_in_it(site: Path) -> None:
    assert not list(site.rglob("*.py"))
    assert not list(site.rglob("*.md"))


@pytest.mark.parametrize("page", LOOKED_AT)
def test_a_page_can_be_read_at_any_size_by_eye_ear_and_keyboard(
    site: Path, chromium: Chromium, page: str
) -> None:
    chromium.inspect(site / f"{page}.html", f"site-{page}")


def test_the_search_finds_without_a_server(site: Path, chromium: Chromium) -> None:
    with chromium.looking(site / "index.html") as view:
        view.page.keyboard.press("/")
        view.page.keyboard.type("suppressions")
        first = view.page.locator(".md-search-result__link").first
        first.wait_for()
        assert "alerts.html" in str(first.get_attribute("href"))
        view.screenshot("site-search")
