"""The report to look at: one HTML file that loads nothing, runs no script but its own and shows any text as text."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from seedbed_contract.reports import wording

if TYPE_CHECKING:
    from jinja2 import Template

    from seedbed_contract.findings import Covered, Report


_HERE: Final = Path(__file__).parent
_OPEN: Final = 10
"""So many findings are shown open; more would have to be scrolled past."""


def report(judgement: Report) -> str:
    """Return a judgement as an HTML page that is whole in one file."""
    style, script = (Markup(_text(name)) for name in ("report.css", "report.js"))  # noqa: S704 - our own files
    return _template().render(
        judgement=judgement,
        words=wording,
        outcome=wording.outcome(judgement),
        sides=wording.coverage(judgement),
        open_findings=_OPEN,
        style=style,
        script=script,
        policy=_policy(style, script),
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"line": _line, "lines": _lines, "state": _state}
    return environment.from_string(_text("report.html.jinja"))


@cache
def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return what a browser may load and run: this style and this script, which it tells by their hashes."""
    nothing_else = "default-src 'none'; base-uri 'none'; form-action 'none'"
    return f"{nothing_else}; style-src {_hash(style)}; script-src {_hash(script)}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _line(value: Any) -> str:
    return wording.on_one_line(str(value))


def _lines(value: Any) -> str:
    return wording.on_lines(str(value))


def _state(entry: Covered) -> str:
    """Return how a clause was exercised, as the names of the classes that colour it."""
    refusing = {None: "never", 0: "missed"}.get(entry.refusing, "done")
    return f"a-{'done' if entry.accepting else 'missed'} r-{refusing}"
