"""A hook of the documentation build: it renders the Sphinx markup of docstrings, which mkdocstrings leaves as it is."""

from __future__ import annotations

import re

ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc):(<code>)(?:~[\w.]*\.)?")
LITERAL_BLOCK = re.compile(r"::(?=</p>)")


def on_page_content(html: str, **_: object) -> str:
    """Return the content of a page with roles as plain code, and without the second colon before a code block."""
    return LITERAL_BLOCK.sub(":", ROLE.sub(r"\1", html))
