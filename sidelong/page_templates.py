"""Templates of pages and drawings: files beside this one, filled in with everything escaped.

What traffic named is made one harmless line (`plain`) and then escaped for HTML or SVG, both by the
environment, so that no template has to think of it.
"""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sidelong.alerts.plain_text import plain

__all__ = ["asset", "digest", "filled"]

_FOLDER: Final = Path(__file__).resolve().parent
_LONGEST: Final = 2_000


def filled(template: str, **values: Any) -> Markup:
    """A template of that name, filled in; safe to put into another one as it is."""
    return Markup(_environment().get_template(template).render(**values))


@cache
def asset(name: str) -> Markup:
    """A style sheet or script of ours, to stand in a page as it is."""
    text = (_FOLDER / name).read_text(encoding="utf-8")
    assert "</" not in text, f"{name} would end the element that it stands in"
    return Markup(text)


def digest(text: str) -> str:
    """How a Content-Security-Policy names a style sheet or script that stands in the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _shown(value: Any) -> Any:
    return plain(value, _LONGEST) if type(value) is str else value


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
