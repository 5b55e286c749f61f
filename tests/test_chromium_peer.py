"""The browser of tests sees what is wrong with a page, or unusable ones would pass."""

from pathlib import Path
from typing import Final

import pytest
from peers.chromium_peer import PHONE, Chromium

PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Page</title>
<meta name="viewport" content="width=device-width">
<style>:root {{ color-scheme: light dark }}</style>
<main><h1>Page</h1>{}</main></html>"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.html"


def written(page: Path, content: str) -> Path:
    page.write_text(PAGE.format(content), encoding="utf-8")
    return page


def test_a_plain_page_passes_at_both_sizes_in_light_and_dark(
    chromium: Chromium, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peers.chromium_peer.ARTIFACTS", tmp_path / "pictures")
    views = chromium.inspect(written(page, "<p>Plain.</p>"), "plain")
    assert [view.form for view in views] == [
        "1280x900-light",
        "1280x900-dark",
        "390x844-light",
        "390x844-dark",
    ]
    assert len(list((tmp_path / "pictures").glob("plain-*.png"))) == len(views)
    assert all(0 < view.seconds < 60 for view in views)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("<img alt='' src='http://sidelong.example/a.png'>", "elsewhere"),
        ("<script>fetch('https://127.0.0.1:9/').catch(() => 0)</script>", "elsewhere"),
        ("<script>throw new Error('broken')</script>", "broken"),
        ("<script>console.error('complains')</script>", "complains"),
        ("<img alt='' src='absent.png'>", "absent.png"),
    ],
    ids=["an image elsewhere", "a call elsewhere", "a throw", "a complaint", "a file not there"],
)
def test_what_a_page_does_wrong_fails_it(
    chromium: Chromium, page: Path, content: str, why: str
) -> None:
    with pytest.raises(AssertionError, match=why), chromium.looking(written(page, content)):
        pass


def test_a_button_without_a_name_and_pale_text_are_serious(chromium: Chromium, page: Path) -> None:
    content = "<button></button><p style='color: #ccc; background: #fff'>pale</p>"
    with chromium.looking(written(page, content)) as view:
        assert {found.rule for found in view.violations()} == {"button-name", "color-contrast"}


def test_a_page_wider_than_a_phone_is_seen(chromium: Chromium, page: Path) -> None:
    with chromium.looking(written(page, "<p style='width: 900px'>w</p>"), PHONE) as view:
        assert view.too_wide() > 0
