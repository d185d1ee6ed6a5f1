"""The report for a pull request: Markdown that is safe to post, whatever the target answered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from seedbed_contract.reports import wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seedbed_contract.findings import Finding, Report


_LONGEST: Final = 60_000
"""GitHub refuses a comment of more than 65,536 characters."""
_LONGEST_PART: Final = 10_000
_ROWS: Final = 50
_LONGEST_LINE: Final = 200
_LONGEST_ANSWER: Final = 2_000
_LONGEST_LIST: Final = 20
_MARKS: Final = {"conforms": "✅", "findings": "❌", "not judged": "⚪"}

_PLAIN: Final = re.compile(r"(?:\w[\w ,.;:?!>'\"()%/=+-]*)?")
_MEANT: Final = re.compile(r"_|://|www\.|\bGH-|^\d+[.)]", re.IGNORECASE)
"""What, made of plain characters, is emphasis, a link or a list all the same."""


def report(judgement: Report) -> str:
    """Return a judgement as a comment that GitHub and GitLab take: short first, the rest folded away.

    Text of the target stands in code alone, where it can form no link, mention, table or HTML.
    """
    opening, ending = [*_opening(judgement)], [*_ending(judgement)]
    room = _LONGEST - sum(map(len, (*opening, *ending)))
    told = _fitting((_details(finding, judgement) for finding in judgement.findings), room)
    left_out = len(judgement.findings) - len(told)
    if left_out:
        told.append(f"The details of {left_out:,} more are in the other reports.")
    return "\n\n".join((*opening, *told, *ending)) + "\n"


def _fitting(blocks: Iterable[str], room: int) -> list[str]:
    """Return the first blocks that fit into so many characters."""
    kept: list[str] = []
    for block in blocks:
        room -= len(block) + 2
        if room < 0:
            break
        kept.append(block)
    return kept


def _opening(judgement: Report) -> Iterator[str]:
    mark = _MARKS[wording.outcome(judgement)]
    yield f"### {mark} {_text(judgement.target)}: {_text(wording.verdict(judgement))}"
    if judgement.findings:
        rows = _fitting(map(_row, judgement.findings[:_ROWS]), _LONGEST_PART)
        more = len(judgement.findings) - len(rows)
        last = [f"| | and {more:,} more | |"] if more else []
        yield "\n".join(("| clause | what is wrong | seen |", "| --- | --- | ---: |", *rows, *last))


def _row(finding: Finding) -> str:
    side = "" if finding.side == "service" else f" (by the {_text(finding.side)})"
    return f"| {_code(finding.clause)} | {_text(finding.title)}{side} | {finding.count:,} |"


def _details(finding: Finding, judgement: Report) -> str:
    return "\n\n".join(filter(None, _told(finding, judgement)))


def _told(finding: Finding, judgement: Report) -> Iterator[str]:
    yield f"<details><summary>{_code(finding.clause)}: {_text(finding.title)}</summary>"
    says = f"The contract says: {_text(finding.says)}<br>" if finding.says else ""
    yield f"{says}Stated in: {_text(finding.place)}"
    yield _fenced(wording.on_one_line(finding.sample.curl), "sh") if finding.sample.curl else ""
    yield _fenced(wording.clipped(wording.on_lines(finding.sample.answer), _LONGEST_ANSWER), "text")
    yield f"Also: {_list(finding.also)}" if finding.also else ""
    yield _text(wording.circumstances(finding, judgement))
    yield "</details>"


def _ending(judgement: Report) -> Iterator[str]:
    if judgement.coverage:
        yield wording.coverage_line(judgement).capitalize()
    yield _text(f"{wording.figures(judgement)}; {wording.basis(judgement)}")
    reasons = wording.not_judged(judgement)
    if reasons:
        told = _fitting((f"- {_text(reason)}: {_list(names)}" for reason, names in reasons.items()), _LONGEST_PART)
        yield f"<details><summary>Not judged: {len(judgement.not_judged):,}</summary>"
        yield "\n".join(told)
        yield "</details>"


def _list(names: list[str]) -> str:
    return wording.listed([*map(_code, names)], _LONGEST_LIST)


def _text(text: str) -> str:
    """Return a text on one line, as it is where all of it is plain, else as code."""
    line = wording.clipped(wording.on_one_line(text), _LONGEST_LINE).strip()
    return line if _PLAIN.fullmatch(line) and not _MEANT.search(line) else _code(line)


def _code(text: str) -> str:
    """Return a text as code in which no character means anything to Markdown, to a table or to HTML."""
    line = wording.clipped(wording.on_one_line(text), _LONGEST_LINE)
    return f"<code>{''.join(char if char.isalnum() or char == ' ' else f'&#{ord(char)};' for char in line)}</code>"


def _fenced(text: str, language: str) -> str:
    # A fence ends at one of at least its own length.
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
