"""Reports show the whole outcome of a run, and they are safe to display whatever the target responded."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt
from rich.console import Console
from seedbed_contract import findings
from seedbed_contract.findings import CheckResult, Covered, Finding, NotChecked, Report, Sample, place_of, statement_of
from seedbed_contract.reports import html_report, json_report, junit_report, markdown_report, wording
from seedbed_contract.reports.terminal import RunProgress, show
from seedbed_contract.reports.verdict import verdict_of
from seedbed_schemas import default_contract

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_schemas.clauses import Level

CLAUSES = findings.testable_clauses(default_contract())
CONTROLS = "\x1b[2J\x07\x00\x9b\u202e\u2028\ud800"
CURL = 'curl -sS http://127.0.0.1:1/api -H "Authorization: Bearer $SEEDBED_API_KEY" -d \'' + "a" * 3001 + "'"
CHECKS = [
    CheckResult("requests.refused", "what the contract forbids is refused", 1.5, 1),
    CheckResult("records.fields", "each state has its fields", 0.5, 0),
    CheckResult("callbacks.sent", "a callback is sent", 0.0, 0, "nothing can reach the receiver", is_checked=False),
]


def finding(
    clause: str = "input.prompt/maxLength", title: str = "accepts a prompt of 3001 characters", level: Level = "error"
) -> Finding:
    stated = CLAUSES[clause]
    sample = Sample(CURL, 'HTTP 200\n\n{"code": 200}', len(CURL))
    says, place = statement_of(stated), place_of(stated)
    return Finding(clause, title, says, place, "requests.refused", sample, 7, ["other case"], level=level)


def coverage(missing: str = "") -> list[Covered]:
    return [
        Covered(clause, 0 if name == missing else 2, None if clause.kind == "behaviour" else 1)
        for name, clause in CLAUSES.items()
    ]


def report_with(*found: Finding, **changed: object) -> Report:
    report = Report("http://127.0.0.1:1", "documented", "envelope", 42, 412, 12.34, 38, 247.5, [*found])
    report.checks, report.coverage = CHECKS[:2], coverage()
    for name, value in changed.items():
        setattr(report, name, value)
    return report


def report_of_text(text: str) -> Report:
    """Return a report that has the same text in every place that holds text."""
    found = Finding(text, text, text, text, text, Sample(text, text, 1), 2, [text, text], "service")
    checks = [CheckResult(text, text, 0.1, 1, text), CheckResult(text, text, 0.0, 0, text, is_checked=False)]
    return Report(
        *(text, text, text, 1, 2, 3.0, 4, 5.0),
        findings=[found, found],
        checks=checks,
        not_checked=[NotChecked(text, text)],
        coverage=coverage(),
        remarks=[text],
    )


EMPTY = Report("http://127.0.0.1:9", "auto", "auto", 1)
MANY = report_with(*(finding(clause) for clause in [*CLAUSES, *CLAUSES, *CLAUSES, *CLAUSES][:500]))
UNREACHABLE = report_with(checks=CHECKS[2:], not_checked=[NotChecked("everything", "nothing answers there")])

anything = st.text(alphabet=st.characters()) | st.text("`|<>&]\"'\\\n\r\t\x00\x1b\u2028\u202e\ud800*_[](){}#@~-=a ")


def render_on_terminal(report: Report, width: int = 100) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    return render_on(console, report)


def render_in_file(report: Report) -> str:
    return render_on(Console(file=io.StringIO(), width=80), report)


def render_on(console: Console, report: Report) -> str:
    show(report, console)
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


READABLE = [html_report.render, junit_report.render, markdown_report.render, render_on_terminal]


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        (report_with(), "conforms"),
        (report_with(finding()), "1 finding"),
        (MANY, "500 findings"),
        (report_with(finding(level="warning")), "conforms, with 1 warning"),
        (report_with(finding(level="warning"), fail_on="warning"), "1 warning"),
        (report_with(finding(), finding(level="warning"), finding(level="warning")), "1 error and 2 warnings"),
        (
            report_with(finding(level="warning"), not_checked=[NotChecked("a", "b")]),
            "conforms, with 1 warning, but 1 item was not checked",
        ),
        (EMPTY, "not checked: no check was run"),
        (UNREACHABLE, "not checked: nothing answers there"),
        (report_with(checks=CHECKS[2:]), "not checked: nothing can reach the receiver"),
        (report_with(not_checked=[NotChecked("a", "b")]), "conforms, but 1 item was not checked"),
    ],
)
def test_the_verdict_is_one_line_and_mentions_what_was_not_checked(report: Report, verdict: str) -> None:
    assert verdict_of(report).line == verdict
    assert render_on_terminal(report).rstrip().splitlines()[-1].startswith(verdict)


def test_a_terminal_shows_every_part_of_a_finding() -> None:
    text = render_on_terminal(report_with(finding()))
    parts = ("3001 characters", "input.prompt/maxLength", "maxLength: 3000", "最大长度", '{"code": 200}', "other case")
    assert [part for part in (*parts, "7 times", "--seed 42", "requests.refused") if part not in text] == []


@pytest.mark.parametrize("width", [20, 100])
def test_the_curl_command_is_not_folded_on_a_narrow_terminal(width: int) -> None:
    assert f"    {CURL}\n" in render_on_terminal(report_with(finding()), width)


def test_lines_are_not_folded_in_a_file() -> None:
    lines = render_in_file(report_with(finding(title="a long title " * 30))).splitlines()
    assert any(line.endswith("a long title " * 29 + "a long title ") for line in lines)
    assert any(line.strip() == CURL for line in lines)


def test_a_terminal_lists_the_clauses_that_were_not_exercised() -> None:
    text = render_on_terminal(report_with(coverage=coverage(missing="code/505")), width=200)
    assert f"clauses: {len(CLAUSES) - 1} of {len(CLAUSES)} exercised (accepting)" in text
    assert "not exercised (accepting): code/505" in text


def test_a_reason_for_several_unchecked_clauses_is_printed_once() -> None:
    reasons = [NotChecked(clause, "it is not supported") for clause in CLAUSES]
    text = render_on_terminal(report_with(not_checked=reasons), width=200)
    assert text.count("it is not supported") == 1
    assert f"and {len(CLAUSES) - 12} more" in text


def test_only_the_titles_of_the_findings_beyond_the_limit_are_printed() -> None:
    text = render_on_terminal(MANY, width=200)
    assert text.count(CURL) == 25
    assert text.count("accepts a prompt of 3001 characters") == 500


@given(text=anything)
def test_text_of_a_target_contains_no_control_characters_on_a_terminal(text: str) -> None:
    for shown in (render_on_terminal(report_of_text(text)), render_in_file(report_of_text(text))):
        assert [char for char in shown if not char.isprintable() and char != "\n"] == []
        shown.encode()


def test_a_long_response_is_shortened_with_a_note() -> None:
    found = finding()
    found.sample = Sample("", "x" * 5000)
    assert "... (4,200 more characters)" in render_on_terminal(report_with(found), width=2000)


@pytest.mark.parametrize(
    "report", [EMPTY, MANY, UNREACHABLE, report_with(), report_with(finding()), report_of_text(CONTROLS)]
)
def test_every_json_report_matches_its_schema(report: Report) -> None:
    document = json.loads(json_report.render(report))
    validator = Draft202012Validator(json.loads(json_report.SCHEMA.read_bytes()))
    assert list(validator.iter_errors(document)) == []
    assert document["outcome"] == verdict_of(report).outcome


@given(text=anything)
def test_a_json_report_contains_every_text_unchanged(text: str) -> None:
    written = json_report.render(report_of_text(text))
    assert written.isascii()
    found = json.loads(written)["findings"][0]
    assert (found["title"], found["sample"]["response"], found["also"]) == (text, text, [text, text])


def test_a_json_report_counts_how_often_each_clause_was_exercised() -> None:
    counts = json.loads(json_report.render(report_with(coverage=coverage(missing="code/505"))))["coverage"]
    assert counts["accepting"] == {"exercised": len(CLAUSES) - 1, "total": len(CLAUSES), "missing": ["code/505"]}
    assert [entry["clause"] for entry in counts["clauses"]] == [*CLAUSES]
    assert {"clause": "life/final", "accepting": 2, "refusing": None} in counts["clauses"]


def xml_of(report: Report) -> ET.Element:
    return ET.fromstring(junit_report.render(report).encode())  # noqa: S314 - our own output, parsed as CI systems do


def cases(report: Report) -> dict[str, list[str]]:
    """Return the test cases of a JUnit report by outcome, counted as CI systems do."""
    suite = xml_of(report)[0]
    by_outcome: dict[str, list[str]] = {"passed": [], "failure": [], "skipped": []}
    for case in suite.iter("testcase"):
        ends = [child.tag for child in case if child.tag in by_outcome] or ["passed"]
        assert len(ends) == 1
        by_outcome[ends[0]].append(f"{case.get('classname')}: {case.get('name')}")
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == [
        str(n) for n in (sum(map(len, by_outcome.values())), len(by_outcome["failure"]), 0, len(by_outcome["skipped"]))
    ]
    return by_outcome


def test_junit_has_a_test_case_for_each_check_and_each_finding() -> None:
    second = finding("code/422", "answers 500")
    report = report_with(finding(), second, checks=CHECKS, not_checked=[NotChecked("code/505", "faults unsupported")])
    assert cases(report) == {
        "passed": ["records.fields: each state has its fields"],
        "failure": [
            "requests.refused: input.prompt/maxLength: accepts a prompt of 3001 characters",
            "requests.refused: code/422: answers 500",
        ],
        "skipped": ["callbacks.sent: a callback is sent", "not checked: code/505"],
    }


def test_a_junit_failure_contains_every_part_of_a_finding() -> None:
    failure = xml_of(report_with(finding())).find(".//failure")
    assert failure is not None
    text = f"{failure.get('message')}\n{failure.text}"
    parts = (CURL, '{"code": 200}', "最大长度", "maxLength: 3000", "--seed 42", "other case", "7 times")
    assert [part for part in parts if part not in text] == []


def test_junit_says_why_a_check_was_only_partly_run() -> None:
    check = CheckResult("records.fields", "each state has its fields", 1.0, 0, "the task was still pending")
    assert "the task was still pending" in junit_report.render(report_with(checks=[check]))


@given(text=anything)
def test_junit_is_well_formed_whatever_the_target_sends(text: str) -> None:
    root = xml_of(report_of_text(text))
    assert len(root.findall(".//failure")) == 2


def cells_per_row(text: str) -> list[int]:
    """Return the number of cells in each table row of a comment."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows, cells = [], 0
    for token in tokens:
        cells = 0 if token.type == "tr_open" else cells + token.type.endswith(("th_open", "td_open"))
        rows += [cells] if token.type == "tr_close" else []
    return rows


def test_a_comment_starts_with_the_verdict_and_folds_the_details() -> None:
    text = markdown_report.render(report_with(finding(), not_checked=[NotChecked("code/505", "faults unsupported")]))
    assert text.splitlines()[0].endswith("</code>: 1 finding")
    assert cells_per_row(text) == [4, 4]
    assert text.count("<details>") == text.count("</details>") == 3
    assert CURL in text
    assert "Clauses: " in text


@pytest.mark.slow
def test_a_comment_never_exceeds_the_limit_of_github() -> None:
    hostile = report_of_text("`" * 9000 + "|" * 9000)
    for report in (MANY, hostile, report_with(*[hostile.findings[0]] * 500, not_checked=hostile.not_checked * 500)):
        assert len(markdown_report.render(report)) < 65_536
    assert "more are in the other reports" in markdown_report.render(MANY)


@given(text=anything.filter(str.strip))
def test_text_of_a_target_is_not_markup_in_a_comment(text: str) -> None:
    written = markdown_report.render(report_of_text(text))
    assert cells_per_row(written) == [4, 4, 4]
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(written)
    fences = [token for token in tokens if token.type == "fence"]
    assert {fence.content.rstrip("\n") for fence in fences} <= {
        wording.on_one_line(text),
        wording.on_lines(text).rstrip("\n"),
    }
    inner = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in inner} <= {"text", "text_special", "html_inline", "softbreak"}
    tags = {child.content for child in inner if child.type == "html_inline"}
    assert tags <= {"<code>", "</code>", "<br>", "<summary>", "</summary>"}


class Page(HTMLParser):
    """The tags and attributes of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.policy = self.code = ""
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        given = dict(attrs)
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "code" and data.startswith("curl"):
            self.code = data


def test_a_page_contains_the_whole_report() -> None:
    report = report_with(finding(), checks=CHECKS, not_checked=[NotChecked("code/505", "faults unsupported")])
    text = html_report.render(report)
    parts = (
        "1 finding",
        "最大长度",
        "--seed 42",
        "7 times",
        "faults unsupported",
        "nothing can reach the receiver",
    )
    assert [part for part in (*parts, "records.fields", "other case") if part not in text] == []
    assert Page(text).code == CURL
    assert text.count('class="cell') == len(CLAUSES)


def test_a_page_loads_nothing_and_runs_only_its_own_script() -> None:
    page = Page(html_report.render(report_with(finding())))
    assert page.policy.startswith("default-src 'none'")
    assert re.findall("unsafe|https?:", page.policy) == []
    assert not {"src", "href", "style", "onclick"} & page.attributes
    assert not {"link", "img", "iframe", "a"} & {*page.tags}


@given(text=anything)
def test_text_of_a_target_is_escaped_in_a_page(text: str) -> None:
    page, plain = Page(html_report.render(report_of_text(text))), Page(html_report.render(report_of_text("x")))
    optional = {"button", "dd", "dt", "pre", "code", "br", "span"}
    assert [tag for tag in page.tags if tag not in optional] == [tag for tag in plain.tags if tag not in optional]
    assert page.attributes <= plain.attributes


@pytest.mark.parametrize(
    "render", [html_report.render, junit_report.render, markdown_report.render, render_on_terminal]
)
def test_the_statement_of_an_unknown_clause_is_left_out(render: Callable[[Report], str]) -> None:
    found = finding()
    found.says = ""
    assert re.search(r"[Ss]ays", render(report_with(found))) is None


@pytest.mark.parametrize(
    "render", [html_report.render, junit_report.render, markdown_report.render, render_on_terminal]
)
def test_a_report_on_recorded_traffic_names_no_seed(render: Callable[[Report], str]) -> None:
    assert "--seed 42" in render(report_with(finding()))
    assert "--seed" not in render(report_with(finding(), is_recorded=True))


@pytest.mark.parametrize(
    "render", [json_report.render, html_report.render, junit_report.render, markdown_report.render, render_on_terminal]
)
@pytest.mark.parametrize("report", [EMPTY, MANY, report_of_text(CONTROLS), report_of_text("")])
def test_every_format_can_be_encoded(render: Callable[[Report], str], report: Report) -> None:
    assert render(report).encode()


def progress_on(console: Console, *, quiet: bool = False) -> str:
    with RunProgress(console, 2, quiet=quiet) as progress:
        progress.check("requests.refused", f"invalid requests {CONTROLS}")
        progress.sent(1200)
        progress.sent()
        progress.check("[bold]records", "record fields")
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_progress_in_a_file_is_one_line_for_each_check() -> None:
    lines = progress_on(Console(file=io.StringIO(), width=20)).splitlines()
    assert lines == [
        rf"requests.refused: invalid requests {wording.on_one_line(CONTROLS)}",
        "[bold]records: record fields",
    ]


def test_progress_on_a_terminal_is_a_bar_that_disappears() -> None:
    text = progress_on(Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None))
    assert "1/2" in text
    assert "1,201 requests" in text
    assert "[bold]records: record fields" in text
    assert text.endswith("\x1b[2K")


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_progress_prints_nothing(*, terminal: bool) -> None:
    assert progress_on(Console(file=io.StringIO(), force_terminal=terminal), quiet=True) == ""


def test_a_warning_fails_a_junit_case_only_if_warnings_fail_the_run() -> None:
    warned = finding(level="warning")
    name = "requests.refused: input.prompt/maxLength: accepts a prompt of 3001 characters"
    assert cases(report_with(finding("code/422", "answers 500"), warned))["passed"][-1] == name
    assert "warning: " in junit_report.render(report_with(warned))
    assert cases(report_with(warned, fail_on="warning"))["failure"] == [name]


@pytest.mark.parametrize("render", READABLE)
def test_every_report_shows_the_level_of_a_warning(render: Callable[[Report], str]) -> None:
    assert "warning" in render(report_with(finding(level="warning")))
    assert "warning" not in render(report_with(finding()))
