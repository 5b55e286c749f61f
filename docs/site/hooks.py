"""Hooks of MkDocs: pages of the repository that are not in docs/ become part of the site, notebooks
become pages, and links to what is no page become names. See mkdocs.yml.
"""

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parent))  # MkDocs loads a hook by its path

from notebook_pages import NOTEBOOKS, placed, rendered

__all__ = ["on_files", "on_page_content", "on_page_markdown", "on_post_build", "on_post_page"]

ROOT: Final = Path(__file__).resolve().parents[2]
ELSEWHERE: Final = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "examples/shop-incident/README.md": "example.md",
    **{f"notebooks/{one.name}": f"notebooks/{one.stem}.md" for one in NOTEBOOKS},
}
"""Pages of the repository that are pages of the site too, or have one in their place there."""

RUN: Final = Path(os.environ.get("SIDELONG_NOTEBOOKS", ROOT / "build" / "notebooks"))
"""Where notebooks are that were run; those that are not there are shown without outputs."""

SHOWN: Final[dict[str, list[str]]] = {}
"""The outputs of notebooks, by page."""

_LINK: Final = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_FENCED: Final = re.compile(r"(^ *(?:```|~~~~).*?^ *(?:```|~~~~)$)", re.M | re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take in the pages that are elsewhere, where docs/ has none of that name."""
    for source, name in ELSEWHERE.items():
        if source.endswith(".ipynb"):
            run = RUN / Path(source).name
            text, SHOWN[name] = rendered(run if run.exists() else ROOT / source)
            files.append(File.generated(config, name, content=text))
        elif files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into those of the site. What is shown in blocks stays."""
    places = {name: source for source, name in ELSEWHERE.items()}
    at = page.file.src_uri
    folder = posixpath.dirname(f"docs/{at}" if (ROOT / "docs" / at).exists() else places[at])

    def linked(found: re.Match[str]) -> str:
        text, target = found.groups()
        if re.match("[a-z]+:|#", target):
            return found[0]
        path, mark, anchor = target.partition("#")
        source = posixpath.normpath(posixpath.join(folder, path))
        name = ELSEWHERE.get(source, source.removeprefix("docs/"))
        if files.get_file_from_path(name) is None:
            return text  # a file of the repository: its name is all that the site can say
        if text.endswith(".md"):
            text = _title(files.get_file_from_path(name))
        return f"[{text}]({posixpath.relpath(name, posixpath.dirname(at) or '.')}{mark}{anchor})"

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(linked, part) for part in parts[::2]]
    return "".join(parts)


def _title(file: File | None) -> str:
    """What a page calls itself, in the place of the name of its file."""
    return file.content_string.partition("\n")[0].lstrip("# ") if file else ""


def on_page_content(output: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the outputs of notebooks in their places."""
    return placed(output, SHOWN.get(page.file.src_uri, []))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Mend what the theme leaves out for keyboards and screen readers."""
    output = output.replace('role="dialog"', 'role="dialog" aria-label="Search"')
    output = output.replace('<div class="output">', '<div class="output" tabindex="0">')
    return re.sub("<pre(?=>)", '<pre tabindex="0"', output)


@event_priority(-100)  # after the search has written its index
def on_post_build(config: MkDocsConfig) -> None:
    """Put the index of the search into a script too: a page on a disk may read no JSON."""
    folder = Path(config.site_dir, "search")
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")
