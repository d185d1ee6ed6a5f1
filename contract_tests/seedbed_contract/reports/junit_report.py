"""The report for CI systems: JUnit XML, as Jenkins, GitLab, Azure and the like read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from seedbed_contract.reports import wording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_contract.findings import CheckResult, Finding, Report


_NAME: Final = "seedbed check"
_UNTOLD: Final = "no reason was given"


def report(judgement: Report) -> str:
    """Return a judgement as JUnit XML: one test case per check, or per finding of a check that found some.

    What was not judged is skipped. Characters that XML cannot carry are written as escapes.
    """
    suite = Element("testsuite", name=f"{_NAME} {wording.on_one_line(judgement.target)}")
    suite.append(_properties(judgement))
    suite.extend(_cases(judgement))
    suite.attrib |= _counts(suite, judgement.seconds)
    root = Element("testsuites", name=_NAME)
    root.append(suite)
    indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n'


def _properties(judgement: Report) -> Element:
    names = ("target", "dialect", "http_status", "seed", "requests", "tasks", "spent")
    properties = Element("properties")
    for name in names:
        SubElement(properties, "property", name=name, value=wording.on_one_line(str(getattr(judgement, name))))
    SubElement(properties, "property", name="coverage", value=wording.coverage_line(judgement))
    return properties


def _counts(suite: Element, seconds: float) -> dict[str, str]:
    counts = {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error"}
    counts["skipped"] = "testcase/skipped"
    return {name: str(len(suite.findall(path))) for name, path in counts.items()} | {"time": f"{seconds:.3f}"}


def _cases(judgement: Report) -> Iterator[Element]:
    found: dict[str, list[Finding]] = {check.name: [] for check in judgement.checks}
    for finding in judgement.findings:
        found.setdefault(finding.check, []).append(finding)
    for check in judgement.checks:
        if not found[check.name]:
            yield _of_check(check)
    # A reader of JUnit XML takes one failure of a test case and drops the others: each finding is a case of its own.
    for findings in found.values():
        yield from (_of_finding(finding, judgement) for finding in findings)
    for entry in judgement.not_judged:
        if entry.subject not in found:
            yield _skipped(_case("not judged", entry.subject, 0.0), entry.reason)


def _case(group: str, name: str, seconds: float) -> Element:
    return Element(
        "testcase", classname=wording.on_one_line(group), name=wording.on_one_line(name), time=f"{seconds:.3f}"
    )


def _of_check(check: CheckResult) -> Element:
    case = _case(check.name, check.about, check.seconds)
    if not check.judged:
        return _skipped(case, check.reason)
    if check.reason:
        SubElement(case, "system-out").text = f"not judged in whole: {wording.on_one_line(check.reason)}"
    return case


def _skipped(case: Element, reason: str) -> Element:
    SubElement(case, "skipped", message=wording.on_one_line(reason) or _UNTOLD)
    return case


def _of_finding(finding: Finding, judgement: Report) -> Element:
    case = _case(finding.check, f"{finding.clause}: {finding.title}", 0.0)
    failure = SubElement(case, "failure", type=wording.on_one_line(finding.clause), message=_message(finding))
    failure.text = "\n\n".join(filter(None, _told(finding, judgement)))
    return case


def _message(finding: Finding) -> str:
    says = f"; the contract says: {finding.says}" if finding.says else ""
    return wording.on_one_line(f"{finding.title}{says}")


def _told(finding: Finding, judgement: Report) -> Iterator[str]:
    yield f"{wording.on_one_line(finding.clause)}: {wording.on_one_line(finding.says)}"
    yield f"stated in: {wording.on_one_line(finding.place)}"
    yield "" if finding.side == "service" else f"broken by: the {wording.on_one_line(finding.side)}"
    yield wording.on_one_line(finding.sample.curl)
    yield wording.on_lines(finding.sample.answer)
    yield "also: " + wording.listed([*map(wording.on_one_line, finding.also)], 50) if finding.also else ""
    yield wording.circumstances(finding, judgement)
