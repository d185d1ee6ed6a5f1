"""The report as JUnit XML for CI systems such as Jenkins, GitLab and Azure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from seedbed_contract.reports.verdict import describe_status, status_of, verdict_of
from seedbed_contract.reports.wording import circumstances, clipped, coverage_line, listed, on_lines, on_one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_contract.findings import CheckResult, Finding, Report


_NAME: Final = "seedbed check"
_MAX_CASES: Final = 50
_MAX_RESPONSE: Final = 4_000
_MAX_CURL: Final = 10_000
_PROPERTIES: Final = ("target", "dialect", "http_status", "seed", "requests", "tasks", "spent")
_COUNTS: Final = {
    "tests": "testcase",
    "failures": "testcase/failure",
    "errors": "testcase/error",
    "skipped": "testcase/skipped",
}


def render(report: Report) -> str:
    """Return a report as JUnit XML, with a test case for each finding and for each check without a finding of its own.

    A check that judged nothing is skipped. Characters that XML cannot carry are written as escapes.
    """
    suite = Element("testsuite", name=f"{_NAME} {on_one_line(report.target)}")
    properties = SubElement(suite, "properties")
    for name in _PROPERTIES:
        SubElement(properties, "property", name=name, value=on_one_line(str(getattr(report, name))))
    SubElement(properties, "property", name="coverage", value=coverage_line(report))
    SubElement(properties, "property", name="verdict", value=verdict_of(report).line)
    SubElement(properties, "property", name="complete", value="no" if report.stop else "yes")
    suite.extend(_cases(report))
    suite.attrib |= {name: str(len(suite.findall(path))) for name, path in _COUNTS.items()}
    suite.set("time", f"{report.seconds:.3f}")
    root = Element("testsuites", name=_NAME)
    root.append(suite)
    indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n'


def _cases(report: Report) -> Iterator[Element]:
    by_check: dict[str, list[Finding]] = {check.name: [] for check in report.checks}
    for finding in report.findings:
        by_check.setdefault(finding.check, []).append(finding)
    yield from (_case_of_check(check, report) for check in report.checks if not by_check[check.name])
    # CI systems keep one failure of a test case and drop the others, so each finding is a test case.
    for findings in by_check.values():
        yield from (_case_of_finding(finding, report) for finding in findings)
    for entry in report.not_checked:
        if entry.subject not in by_check:
            yield _skipped(_case("not checked", entry.subject, 0.0), entry.reason)
    verdict = verdict_of(report)
    if verdict.outcome not in {"conforms", "known findings", "findings"}:
        case = _case("run", "the run comes to a verdict", 0.0)
        SubElement(case, "error", message=verdict.line)
        yield case
    elif report.stop:
        yield _skipped(_case("run", "the run is complete", 0.0), report.stop.reason)


def _case_of_check(check: CheckResult, report: Report) -> Element:
    """Return the test case of a check that has no finding of its own; it may have seen those of other checks."""
    case = _case(check.name, check.about, check.seconds)
    status, details = status_of(check, report), describe_status(check, report)
    if status == "skipped":
        return _skipped(case, details)
    if status == "failed":
        SubElement(case, "failure", type="finding of another check", message=details)
    elif details:
        SubElement(case, "system-out").text = details
    return case


def _case(group: str, name: str, seconds: float) -> Element:
    return Element("testcase", classname=on_one_line(group), name=on_one_line(name), time=f"{seconds:.3f}")


def _skipped(case: Element, reason: str) -> Element:
    SubElement(case, "skipped", message=on_one_line(reason) or "no reason given")
    return case


def _case_of_finding(finding: Finding, report: Report) -> Element:
    case = _case(finding.check, f"{finding.clause}: {finding.title}", 0.0)
    if finding not in report.failures:
        # A failure would fail the job; the test case passes, and CI systems show its output.
        SubElement(case, "system-out").text = f"{finding.level}: {_describe(finding, report)}"
        return case
    says = f"; the contract says: {finding.says}" if finding.says else ""
    failure = SubElement(
        case, "failure", type=on_one_line(finding.clause), message=on_one_line(f"{finding.title}{says}")
    )
    failure.text = _describe(finding, report)
    return case


def _describe(finding: Finding, report: Report) -> str:
    paragraphs = (
        f"{on_one_line(finding.clause)}: {on_one_line(finding.says)}",
        f"stated in: {on_one_line(finding.place)}",
        "" if finding.side == "service" else f"broken by: the {on_one_line(finding.side)}",
        clipped(on_one_line(finding.sample.curl), _MAX_CURL),
        clipped(on_lines(finding.sample.response), _MAX_RESPONSE),
        "also seen with: " + listed([*map(on_one_line, finding.also)], _MAX_CASES) if finding.also else "",
        circumstances(finding, report),
    )
    return "\n\n".join(filter(None, paragraphs))
