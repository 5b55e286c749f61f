"""The real Chromium for tests, Debian's, without a window: what a page looks like, whether it works
without a network, and what axe-core says of how it is read by ear and by keyboard.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, sync_playwright

from peers.debian import installed

__all__ = [
    "ARTIFACTS",
    "DESKTOP",
    "PHONE",
    "Chromium",
    "Size",
    "View",
    "Violation",
    "chromium_program",
]

ARTIFACTS: Final = Path(
    os.environ.get("SIDELONG_ARTIFACTS", Path(__file__).resolve().parents[2] / ".artifacts")
)
"""Where screenshots are left for people to look at; git ignores it."""

_OWN: Final = ("file:", "data:", "blob:", "about:")
_GRAVE: Final = ("serious", "critical")
_MILLISECONDS: Final = 60_000
"""How long a page may take for anything: what waits is a fault, and a machine of CI is slow."""

_AXE: Final = (  # preload: it would ask for style sheets anew, which a page on a disk may not
    "() => axe.run(document, {resultTypes: ['violations'], preload: false}).then(r => r.violations)"
)
_LOADED: Final = "() => performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
_PAINTED: Final = "() => new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))"
_WIDTHS: Final = (
    "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
)


class Size(NamedTuple):
    """A screen, in pixels of CSS."""

    width: int
    height: int


DESKTOP: Final = Size(1280, 900)
PHONE: Final = Size(390, 844)


class Violation(NamedTuple):
    """A rule of axe-core that a page breaks. impact: minor, moderate, serious or critical."""

    rule: str
    impact: str
    help: str
    elements: tuple[str, ...]


def chromium_program() -> Path:
    """Where it is; Debian's package is installed where it is not, as it needs fifty others.

    Errors: peers.debian.DebianError.
    """
    installed({"chromium": "chromium"})
    return Path(shutil.which("chromium") or "chromium")


@dataclass
class View:
    """A page that is looked at; `page` is Playwright's. seconds: until it had loaded, wall time."""

    page: Page
    size: Size
    dark: bool
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    """What the console says is wrong, what a script throws, and what could not be loaded."""
    refused: list[str] = field(default_factory=list)
    """Addresses elsewhere that the page asked for."""

    @property
    def form(self) -> str:
        """For the name of a file: `1280x900-light`."""
        return f"{self.size.width}x{self.size.height}-{'dark' if self.dark else 'light'}"

    def violations(self, least: Sequence[str] = _GRAVE) -> list[Violation]:
        """What axe-core finds of the page as it is now, of these impacts."""
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
        return [
            Violation(
                found["id"],
                found["impact"],
                found["help"],
                tuple(node["html"][:300] for node in found["nodes"]),
            )
            for found in self.page.evaluate(_AXE)
            if found["impact"] in least
        ]

    def screenshot(self, name: str, *, whole: bool = False) -> Path:
        """Leave a picture in ARTIFACTS: of the screen, or of the whole page."""
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        path = ARTIFACTS / f"{name}-{self.form}.png"
        self.page.screenshot(path=path, full_page=whole, animations="disabled")
        return path

    def too_wide(self) -> int:
        """By how many pixels the page must be scrolled sideways to be read: 0 is right."""
        scrolled, shown = self.page.evaluate(_WIDTHS)
        return int(scrolled - shown)


class Chromium:
    """A browser that runs, and knows no network.

    While it does, this thread counts as one with an event loop: what calls asyncio.run belongs in
    another module of tests.
    """

    def __init__(self) -> None:
        self._playwright: Playwright = sync_playwright().start()
        try:
            self._browser: Browser = self._playwright.chromium.launch(
                executable_path=chromium_program(),
                args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
                timeout=_MILLISECONDS,
            )
        except BaseException:
            self._playwright.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        try:
            self._browser.close()
        finally:
            self._playwright.stop()

    @contextmanager
    def looking(
        self,
        at: Path | str,
        size: Size = DESKTOP,
        *,
        dark: bool = False,
        beside: Sequence[str] = (),
    ) -> Iterator[View]:
        """Open a file or an address, and fail at the end if it asked for anything elsewhere or
        anything went wrong in it. beside: how addresses begin that may be asked for as well.

        Errors: AssertionError.
        """
        address = at.resolve().as_uri() if isinstance(at, Path) else at
        context = self._browser.new_context(
            viewport={"width": size.width, "height": size.height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            is_mobile=size.width < DESKTOP.width,
            has_touch=size.width < DESKTOP.width,
            locale="en-GB",
            timezone_id="UTC",
        )
        try:
            context.set_default_timeout(_MILLISECONDS)
            view = View(context.new_page(), size, dark)
            _watch(view, (*_OWN, *beside))
            view.page.goto(address, wait_until="load")
            view.page.evaluate(_PAINTED)
            view.seconds = float(view.page.evaluate(_LOADED))
            yield view
            assert not view.refused, f"{address} asks for what is elsewhere: {view.refused}"
            assert not view.errors, f"{address}: {view.errors}"
        finally:
            context.close()

    def inspect(self, at: Path | str, name: str, *, beside: Sequence[str] = ()) -> list[View]:
        """Look at a page on a desktop and a phone, in light and dark, leave pictures, and fail on
        what goes wrong, on serious violations, and on a page wider than its screen.

        Errors: AssertionError.
        """
        views = []
        for size in (DESKTOP, PHONE):
            for dark in (False, True):
                with self.looking(at, size, dark=dark, beside=beside) as view:
                    view.screenshot(name)
                    wide, broken = view.too_wide(), view.violations()
                    assert not broken, f"{name} at {view.form}: {broken}"
                    assert not wide, f"{name} at {view.form} is {wide} pixels too wide"
                views.append(view)
        return views


def _watch(view: View, own: tuple[str, ...]) -> None:
    """Collect what goes wrong, from the first byte."""

    def asked(request: Request) -> None:
        if not request.url.startswith(own):
            view.refused.append(request.url[:200])

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            view.errors.append(message.text)

    view.page.on("request", asked)
    view.page.on("console", said)
    view.page.on("pageerror", lambda error: view.errors.append(str(error)))
    view.page.on(
        "requestfailed",
        lambda request: view.errors.append(f"{request.url[:200]}: {request.failure}"),
    )
