"""The report as Markdown for a pull request, safe to post whatever the target responded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from seedbed_contract.reports import wording
from seedbed_contract.reports.verdict import describe_status, status_counts, status_of, verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seedbed_contract.findings import Finding, Report


_MAX_COMMENT: Final = 60_000
"""Characters of a report; GitHub refuses a comment of more than 65,536."""
_MAX_PART: Final = 10_000
_MAX_ROWS: Final = 50
_MAX_LINE: Final = 200
_MAX_RESPONSE: Final = 2_000
_MAX_NAMES: Final = 20
_MARKS: Final = {
    "conforms": "✅",
    "known findings": "🟡",
    "findings": "❌",
    "not checked": "⚪",
    "interrupted": "⚪",
    "internal error": "❌",
}

_PLAIN: Final = re.compile(r"(?:\w[\w ,.;:?!>'\"()%/=+-]*)?")
_MARKUP: Final = re.compile(r"_|://|www\.|\bGH-|^\d+[.)]", re.IGNORECASE)
"""Emphasis, links and lists that consist of otherwise plain characters."""


def render(report: Report) -> str:
    """Return a report as a comment for GitHub and GitLab: the summary first, then folded details.

    Text of the target appears only as code, so it cannot form links, mentions, tables or HTML.
    """
    summary = [*_summary(report)]
    ending = [wording.coverage_line(report).capitalize()] if report.coverage else []
    ending.append(_text(f"{wording.figures(report)}; {wording.basis(report)}"))
    if report.fixed:
        lines = (f"- {_code(known.clause)}: {_text(known.title)}" for known in report.fixed)
        ending += ["Fixed since the baseline:", "\n".join(_fitting(lines, _MAX_PART))]
    if report.checks:
        counts = ", ".join(f"{count:,} {status}" for status, count in status_counts(report).items())
        ending += [f"<details><summary>Checks: {counts}</summary>", _check_lines(report), "</details>"]
    if reasons := wording.not_checked(report):
        lines = (f"- {_text(reason)}: {_names(names)}" for reason, names in reasons.items())
        left_out = sum(map(len, reasons.values()))
        ending.append(f"<details><summary>Not checked: {left_out:,}</summary>")
        ending += ["\n".join(_fitting(lines, _MAX_PART)), "</details>"]
    room = _MAX_COMMENT - sum(map(len, (*summary, *ending)))
    details = _fitting((_details(finding, report) for finding in report.findings), room)
    left_out = len(report.findings) - len(details)
    if left_out:
        details.append(f"The details of {left_out:,} more are in the other reports.")
    return "\n\n".join((*summary, *details, *ending)) + "\n"


def _fitting(blocks: Iterable[str], room: int) -> list[str]:
    """Return the first blocks that fit into a number of characters."""
    fitting: list[str] = []
    for block in blocks:
        room -= len(block) + 2
        if room < 0:
            break
        fitting.append(block)
    return fitting


def _summary(report: Report) -> Iterator[str]:
    verdict = verdict_of(report)
    yield f"### {_MARKS[verdict.outcome]} {_text(report.target)}: {_text(verdict.line)}"
    if report.findings:
        rows = []
        for finding in report.findings[:_MAX_ROWS]:
            side = "" if finding.side == "service" else f" (by the {_text(finding.side)})"
            rows.append(
                f"| {finding.level} | {_code(finding.clause)} | {_text(finding.title)}{side} | {finding.count:,} |"
            )
        rows = _fitting(rows, _MAX_PART)
        more = len(report.findings) - len(rows)
        last = [f"| | | and {more:,} more | |"] if more else []
        head = ("| level | clause | what is wrong | seen |", "| --- | --- | --- | ---: |")
        yield "\n".join((*head, *rows, *last))


def _check_lines(report: Report) -> str:
    lines = []
    for check in report.checks:
        details = describe_status(check, report)
        reason = f": {_text(details)}" if details else ""
        lines.append(f"- {status_of(check, report)} {_code(check.name)}{reason}")
    return "\n".join(_fitting(lines, _MAX_PART))


def _details(finding: Finding, report: Report) -> str:
    says = f"The contract says: {_text(finding.says)}<br>" if finding.says else ""
    paragraphs = (
        f"<details><summary>{_code(finding.clause)}: {_text(finding.title)}</summary>",
        f"{says}Stated in: {_text(finding.place)}",
        _fenced(wording.on_one_line(finding.sample.curl), "sh") if finding.sample.curl else "",
        _fenced(wording.clipped(wording.on_lines(finding.sample.response), _MAX_RESPONSE), "text"),
        f"Also seen with: {_names(finding.also)}" if finding.also else "",
        _text(wording.circumstances(finding, report)),
        "</details>",
    )
    return "\n\n".join(filter(None, paragraphs))


def _names(names: list[str]) -> str:
    return wording.listed([*map(_code, names)], _MAX_NAMES)


def _text(text: str) -> str:
    """Return a text on one line: as it is if Markdown gives it no meaning, otherwise as code."""
    line = wording.clipped(wording.on_one_line(text), _MAX_LINE).strip()
    return line if _PLAIN.fullmatch(line) and not _MARKUP.search(line) else _code(line)


def _code(text: str) -> str:
    """Return a text as code in which no character means anything to Markdown, to a table or to HTML."""
    line = wording.clipped(wording.on_one_line(text), _MAX_LINE)
    return f"<code>{''.join(char if char.isalnum() or char == ' ' else f'&#{ord(char)};' for char in line)}</code>"


def _fenced(text: str, language: str) -> str:
    # A fence ends at a run of backticks that is at least as long, so it is longer than any run in the text.
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
