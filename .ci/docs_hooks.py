"""Hooks of the documentation build: Sphinx markup in docstrings, and the pages as Markdown for coding agents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from properdocs.config.defaults import ProperDocsConfig
    from properdocs.structure.nav import Navigation
    from properdocs.structure.pages import Page

ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc):(<code>)(?:~[\w.]*\.)?")
LITERAL_BLOCK = re.compile(r"::(?=</p>)")
COMMENT = re.compile(r"<!--.*?-->\n*", re.DOTALL)
NO_PARAGRAPH = ("#", "|", "!", "```", "- ")
GENERATED = "reference/"

_pages: dict[str, tuple[str, str]] = {}
"""Title and Markdown of each page of the navigation by path, in its order."""


def on_page_content(html: str, **_: object) -> str:
    """Return the content of a page with roles as plain code, and without the second colon before a code block."""
    return LITERAL_BLOCK.sub(":", ROLE.sub(r"\1", html))


def on_nav(nav: Navigation, **_: object) -> None:
    """Note the order of the pages; those that are generated from docstrings have no Markdown of their own."""
    _pages.clear()  # "properdocs serve" builds again and again
    _pages.update({page.file.src_uri: ("", "") for page in nav.pages if not page.file.src_uri.startswith(GENERATED)})


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> None:
    """Keep the Markdown of a page."""
    if page.file.src_uri in _pages:
        _pages[page.file.src_uri] = page.title or page.file.name, COMMENT.sub("", markdown)


def on_post_build(config: ProperDocsConfig, **_: object) -> None:
    """Write each page as Markdown beside its HTML, and ``llms.txt``, which lists them with a sentence each."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", "", "## Pages", ""]
    for path, (title, markdown) in _pages.items():
        target = Path(config.site_dir, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(markdown, encoding="utf-8")
        lines.append(f"- [{title}]({path}): {_summary(markdown)}")
    Path(config.site_dir, "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _summary(markdown: str) -> str:
    """Return the first sentence of a page."""
    blocks = (" ".join(block.split()) for block in markdown.split("\n\n"))
    paragraph = next((block for block in blocks if block and not block.startswith(NO_PARAGRAPH)), "")
    sentence = re.split(r"(?<=[.?])\s|:$|: ", paragraph)[0]
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", sentence).rstrip(".:?") + ("?" if sentence.endswith("?") else ".")
