"""Reports say what was judged, whoever reads them and whatever the target answered."""

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
from markdown_it import MarkdownIt
from rich.console import Console
from seedbed_contract import findings
from seedbed_contract.findings import CheckResult, Covered, Finding, NotChecked, Report, Sample, place_of, statement_of
from seedbed_contract.reports import html_report, json_report, junit_report, markdown_report, wording
from seedbed_contract.reports.terminal import RunProgress, show
from seedbed_schemas import Schema, default_contract

if TYPE_CHECKING:
    from collections.abc import Callable

CLAUSES = findings.testable_clauses(default_contract())
BENT = "\x1b[2J\x07\x00\x9b\u202e\u2028\ud800"
CURL = 'curl -sS http://127.0.0.1:1/api -H "Authorization: Bearer $SEEDBED_API_KEY" -d \'' + "a" * 3001 + "'"
CHECKS = [
    CheckResult("requests.refused", "what the contract forbids is refused", 1.5, 1),
    CheckResult("records.fields", "each state has its fields", 0.5, 0),
    CheckResult("callbacks.sent", "a callback is sent", 0.0, 0, "nothing can reach the receiver", judged=False),
]


def finding(clause: str = "input.prompt/maxLength", title: str = "accepts a prompt of 3001 characters") -> Finding:
    stated = CLAUSES[clause]
    sample = Sample(CURL, 'HTTP 200\n\n{"code": 200}', len(CURL))
    return Finding(clause, title, statement_of(stated), place_of(stated), "requests.refused", sample, 7, ["other case"])


def coverage(missing: str = "") -> list[Covered]:
    return [
        Covered(clause, 0 if name == missing else 2, None if clause.kind == "behaviour" else 1)
        for name, clause in CLAUSES.items()
    ]


def judged(*found: Finding, **changed: object) -> Report:
    judgement = Report("http://127.0.0.1:1", "documented", "envelope", 42, 412, 12.34, 38, 247.5, [*found])
    judgement.checks, judgement.coverage = CHECKS[:2], coverage()
    for name, value in changed.items():
        setattr(judgement, name, value)
    return judgement


def of_text(text: str) -> Report:
    """Return a judgement that has one text wherever a text can stand."""
    found = Finding(text, text, text, text, text, Sample(text, text, 1), 2, [text, text], "service")
    checks = [CheckResult(text, text, 0.1, 1, text), CheckResult(text, text, 0.0, 0, text, judged=False)]
    return Report(
        *(text, text, text, 1, 2, 3.0, 4, 5.0),
        findings=[found, found],
        checks=checks,
        not_judged=[NotChecked(text, text)],
        coverage=coverage(),
        remarks=[text],
    )


EMPTY = Report("http://127.0.0.1:9", "auto", "auto", 1)
MANY = judged(*(finding(clause) for clause in [*CLAUSES, *CLAUSES, *CLAUSES, *CLAUSES][:500]))
UNREACHABLE = judged(checks=CHECKS[2:], not_judged=[NotChecked("everything", "nothing answers there")])

anything = st.text(alphabet=st.characters()) | st.text("`|<>&]\"'\\\n\r\t\x00\x1b\u2028\u202e\ud800*_[](){}#@~-=a ")


def on_terminal(judgement: Report, width: int = 100) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    return shown_on(console, judgement)


def in_file(judgement: Report) -> str:
    return shown_on(Console(file=io.StringIO(), width=80), judgement)


def shown_on(console: Console, judgement: Report) -> str:
    show(judgement, console)
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


@pytest.mark.parametrize(
    ("judgement", "verdict"),
    [
        (judged(), "conforms"),
        (judged(finding()), "1 finding"),
        (MANY, "500 findings"),
        (EMPTY, "not judged: no check was run"),
        (UNREACHABLE, "not judged: nothing answers there"),
        (judged(checks=CHECKS[2:]), "not judged: nothing can reach the receiver"),
        (judged(not_judged=[NotChecked("a", "b")]), "conforms, as far as it was judged (1 not judged)"),
    ],
)
def test_the_verdict_is_one_line_and_never_kinder_than_what_was_judged(judgement: Report, verdict: str) -> None:
    assert wording.verdict(judgement) == verdict
    assert on_terminal(judgement).rstrip().splitlines()[-1].startswith(verdict)


def test_a_terminal_shows_all_that_a_finding_has() -> None:
    text = on_terminal(judged(finding()))
    told = ("3001 characters", "input.prompt/maxLength", "maxLength: 3000", "最大长度", '{"code": 200}', "other case")
    assert [part for part in (*told, "7 times", "--seed 42", "requests.refused") if part not in text] == []


@pytest.mark.parametrize("width", [20, 100])
def test_the_command_to_paste_is_one_line_however_narrow_the_terminal(width: int) -> None:
    assert f"    {CURL}\n" in on_terminal(judged(finding()), width)


def test_a_file_gets_whole_lines() -> None:
    lines = in_file(judged(finding(title="a long title " * 30))).splitlines()
    assert any(line.endswith("a long title " * 29 + "a long title ") for line in lines)
    assert any(line.strip() == CURL for line in lines)


def test_a_terminal_names_the_clauses_that_were_not_exercised() -> None:
    text = on_terminal(judged(coverage=coverage(missing="code/505")), width=200)
    assert f"clauses: {len(CLAUSES) - 1} of {len(CLAUSES)} exercised (accepting)" in text
    assert "not exercised (accepting): code/505" in text


def test_a_reason_that_stands_in_the_way_of_much_is_told_once() -> None:
    reasons = [NotChecked(clause, "it is not offered") for clause in CLAUSES]
    text = on_terminal(judged(not_judged=reasons), width=200)
    assert text.count("it is not offered") == 1
    assert f"and {len(CLAUSES) - 12} more" in text


def test_findings_without_end_are_told_by_their_titles() -> None:
    text = on_terminal(MANY, width=200)
    assert text.count(CURL) == 25
    assert text.count("accepts a prompt of 3001 characters") == 500


@given(text=anything)
def test_nothing_that_a_target_sends_acts_on_a_terminal(text: str) -> None:
    for shown in (on_terminal(of_text(text)), in_file(of_text(text))):
        assert [char for char in shown if not char.isprintable() and char != "\n"] == []
        shown.encode()


def test_a_long_answer_is_cut_and_says_so() -> None:
    found = finding()
    found.sample = Sample("", "x" * 5000)
    assert "... (4,200 more characters)" in on_terminal(judged(found), width=2000)


@pytest.mark.parametrize("judgement", [EMPTY, MANY, UNREACHABLE, judged(), judged(finding()), of_text(BENT)])
def test_every_json_report_keeps_its_schema(judgement: Report) -> None:
    document = json.loads(json_report.report(judgement))
    assert Schema(json.loads(json_report.SCHEMA.read_bytes()), name="report").violations(document) == []
    assert document["outcome"] == wording.outcome(judgement)


@given(text=anything)
def test_a_json_report_has_every_text_as_it_was(text: str) -> None:
    written = json_report.report(of_text(text))
    assert written.isascii()
    found = json.loads(written)["findings"][0]
    assert (found["title"], found["sample"]["answer"], found["also"]) == (text, text, [text, text])


def test_a_json_report_tells_how_each_clause_was_exercised() -> None:
    told = json.loads(json_report.report(judged(coverage=coverage(missing="code/505"))))["coverage"]
    assert told["accepting"] == {"exercised": len(CLAUSES) - 1, "total": len(CLAUSES), "missing": ["code/505"]}
    assert [entry["clause"] for entry in told["clauses"]] == [*CLAUSES]
    assert {"clause": "life/final", "accepting": 2, "refusing": None} in told["clauses"]


def xml_of(judgement: Report) -> ET.Element:
    return ET.fromstring(junit_report.report(judgement).encode())  # noqa: S314 - what parses it here is what CI systems risk


def cases(judgement: Report) -> dict[str, list[str]]:
    """Return the test cases of a JUnit report by what became of them, as CI systems count them."""
    suite = xml_of(judgement)[0]
    told: dict[str, list[str]] = {"passed": [], "failure": [], "skipped": []}
    for case in suite.iter("testcase"):
        ends = [child.tag for child in case if child.tag in told] or ["passed"]
        assert len(ends) == 1
        told[ends[0]].append(f"{case.get('classname')}: {case.get('name')}")
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == [str(n) for n in (sum(map(len, told.values())), len(told["failure"]), 0, len(told["skipped"]))]
    return told


def test_ci_sees_a_test_for_each_check_and_one_for_each_finding() -> None:
    second = finding("code/422", "answers 500")
    judgement = judged(finding(), second, checks=CHECKS, not_judged=[NotChecked("code/505", "no fault to be had")])
    assert cases(judgement) == {
        "passed": ["records.fields: each state has its fields"],
        "failure": [
            "requests.refused: input.prompt/maxLength: accepts a prompt of 3001 characters",
            "requests.refused: code/422: answers 500",
        ],
        "skipped": ["callbacks.sent: a callback is sent", "not judged: code/505"],
    }


def test_a_failure_in_ci_tells_all_that_a_finding_has() -> None:
    failure = xml_of(judged(finding())).find(".//failure")
    assert failure is not None
    told = f"{failure.get('message')}\n{failure.text}"
    parts = (CURL, '{"code": 200}', "最大长度", "maxLength: 3000", "--seed 42", "other case", "7 times")
    assert [part for part in parts if part not in told] == []


def test_a_check_judged_in_part_says_what_was_left_out() -> None:
    check = CheckResult("records.fields", "each state has its fields", 1.0, 0, "the task was still pending")
    assert "the task was still pending" in junit_report.report(judged(checks=[check]))


@given(text=anything)
def test_xml_survives_whatever_a_target_sends(text: str) -> None:
    root = xml_of(of_text(text))
    assert len(root.findall(".//failure")) == 2


def tables_of(text: str) -> list[int]:
    """Return how many cells each row of the tables of a comment has."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows, cells = [], 0
    for token in tokens:
        cells = 0 if token.type == "tr_open" else cells + token.type.endswith(("th_open", "td_open"))
        rows += [cells] if token.type == "tr_close" else []
    return rows


def test_a_comment_tells_the_verdict_first_and_folds_what_is_long() -> None:
    text = markdown_report.report(judged(finding(), not_judged=[NotChecked("code/505", "no fault to be had")]))
    assert text.splitlines()[0].endswith("</code>: 1 finding")
    assert tables_of(text) == [3, 3]
    assert text.count("<details>") == text.count("</details>") == 2
    assert CURL in text
    assert "Clauses: " in text


def test_a_comment_is_never_longer_than_may_be_posted() -> None:
    hostile = of_text("`" * 9000 + "|" * 9000)
    for judgement in (MANY, hostile, judged(*[hostile.findings[0]] * 500, not_judged=hostile.not_judged * 500)):
        assert len(markdown_report.report(judgement)) < 65_536
    assert "more are in the other reports" in markdown_report.report(MANY)


@given(text=anything.filter(str.strip))
def test_text_of_a_target_means_nothing_in_a_comment(text: str) -> None:
    written = markdown_report.report(of_text(text))
    assert tables_of(written) == [3, 3, 3]
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
    """The tags of an HTML page, with what stands in each kind of element."""

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


def test_a_page_tells_all_that_was_judged() -> None:
    judgement = judged(finding(), checks=CHECKS, not_judged=[NotChecked("code/505", "no fault to be had")])
    text = html_report.report(judgement)
    parts = ("1 finding", "最大长度", "--seed 42", "7 times", "no fault to be had", "nothing can reach the receiver")
    assert [part for part in (*parts, "records.fields", "other case") if part not in text] == []
    assert Page(text).code == CURL
    assert text.count('class="cell') == len(CLAUSES)


def test_a_page_loads_nothing_and_runs_its_own_script_alone() -> None:
    page = Page(html_report.report(judged(finding())))
    assert page.policy.startswith("default-src 'none'")
    assert re.findall("unsafe|https?:", page.policy) == []
    assert not {"src", "href", "style", "onclick"} & page.attributes
    assert not {"link", "img", "iframe", "a"} & {*page.tags}


@given(text=anything)
def test_text_of_a_target_is_text_in_a_page(text: str) -> None:
    page, plain = Page(html_report.report(of_text(text))), Page(html_report.report(of_text("x")))
    optional = {"button", "dd", "dt", "pre", "code", "br", "span"}
    assert [tag for tag in page.tags if tag not in optional] == [tag for tag in plain.tags if tag not in optional]
    assert page.attributes <= plain.attributes


@pytest.mark.parametrize("form", [html_report.report, junit_report.report, markdown_report.report, on_terminal])
def test_a_clause_of_which_nothing_is_known_says_nothing(form: Callable[[Report], str]) -> None:
    found = finding()
    found.says = ""
    assert re.search(r"[Ss]ays", form(judged(found))) is None


@pytest.mark.parametrize("form", [html_report.report, junit_report.report, markdown_report.report, on_terminal])
def test_no_seed_repeats_what_was_recorded(form: Callable[[Report], str]) -> None:
    assert "--seed 42" in form(judged(finding()))
    assert "--seed" not in form(judged(finding(), is_recorded=True))


@pytest.mark.parametrize(
    "form", [json_report.report, html_report.report, junit_report.report, markdown_report.report, on_terminal]
)
@pytest.mark.parametrize("judgement", [EMPTY, MANY, of_text(BENT), of_text("")])
def test_every_form_can_be_written_to_a_file(form: Callable[[Report], str], judgement: Report) -> None:
    assert form(judgement).encode()


def progress_on(console: Console, *, quiet: bool = False) -> str:
    with RunProgress(console, 2, quiet=quiet) as progress:
        progress.check("requests.refused", f"what is forbidden {BENT}")
        progress.sent(1200)
        progress.sent()
        progress.check("[bold]records", "what is shown")
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_progress_in_a_file_is_a_line_for_each_check() -> None:
    lines = progress_on(Console(file=io.StringIO(), width=20)).splitlines()
    assert lines == [
        rf"requests.refused: what is forbidden {wording.on_one_line(BENT)}",
        "[bold]records: what is shown",
    ]


def test_progress_on_a_terminal_is_a_bar_that_goes_away() -> None:
    text = progress_on(Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None))
    assert "1/2" in text
    assert "1,201 requests" in text
    assert "[bold]records: what is shown" in text
    assert text.endswith("\x1b[2K")


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_says_nothing_where_nothing_is_wanted(*, terminal: bool) -> None:
    assert progress_on(Console(file=io.StringIO(), force_terminal=terminal), quiet=True) == ""
