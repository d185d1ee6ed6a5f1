"""The report as one HTML file, which loads nothing, runs only its own script and escapes all text."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from seedbed_contract.reports import wording
from seedbed_contract.reports.verdict import describe_status, status_counts, status_of, verdict_of

if TYPE_CHECKING:
    from seedbed_contract.findings import Report


_FOLDER: Final = Path(__file__).parent
_OPEN_FINDINGS: Final = 10
"""Number of findings that are unfolded when the page opens."""
_REFUSING_STATES: Final = {None: "never", 0: "missed"}

_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters |= {
    "line": lambda value: wording.on_one_line(str(value)),
    "status": status_of,
    "details": describe_status,
    "lines": lambda value: wording.on_lines(str(value)),
    # The CSS classes that colour the two halves of a clause.
    "state": lambda entry: (
        f"a-{'done' if entry.accepting else 'missed'} r-{_REFUSING_STATES.get(entry.refusing, 'done')}"
    ),
}


def render(report: Report) -> str:
    """Return a report as one self-contained HTML page."""
    style, script = (Markup(_read(name)) for name in ("report.css", "report.js"))  # noqa: S704 - our own files
    # The page shows responses of the target. Should escaping ever fail, the browser still runs nothing but our script.
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src {_hash_source(style)}; script-src {_hash_source(script)}"
    )
    return _ENVIRONMENT.get_template("report.html.jinja").render(
        report=report,
        words=wording,
        verdict=verdict_of(report),
        statuses=status_counts(report),
        by_clause=wording.by_clause(report.findings),
        sides=wording.coverage(report),
        open_findings=_OPEN_FINDINGS,
        style=style,
        script=script,
        policy=policy,
    )


@cache
def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash_source(text: str) -> str:
    """Return the hash of a style or a script as a source of a Content Security Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
