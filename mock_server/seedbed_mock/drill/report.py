"""The reports of a drill: JSON for programs, JUnit for CI, Markdown for pull requests, and one HTML file for people."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from seedbed_mock.bill import plain
from seedbed_mock.drill.timeline import timeline_of
from seedbed_mock.verdicts import NOT_VISIBLE, RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from seedbed_mock.drill.runner import DrillReport, ScenarioResult


_NAME: Final = "seedbed drill"
_NAMES_SHOWN: Final = 4
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>#|])")


def outcome_of(result: ScenarioResult, problem: str = "") -> str:
    """Return ``passed``, ``failed``, or ``known`` for what failed before; a drill with a problem has not passed."""
    if result.new or problem:
        return "failed"
    return "known" if result.failed else "passed"


def verdicts_line(result: ScenarioResult) -> str:
    """Return the names of the broken rules in one line."""
    return ", ".join(f"{name} (known)" if name in result.known else name for name in result.failed)


def describe_exit(result: ScenarioResult) -> str:
    """Return how the program ended, in a few words."""
    code = result.seen.exit.code
    return "stopped" if code is None else f"exit {code}" if code >= 0 else f"signal {-code}"


def closing_line(report: DrillReport) -> str:
    """Return the outcome of a drill in one sentence."""
    if report.problem:
        return f"Nothing can be concluded. {report.problem}"
    names, known = [each.name for each in report.results if each.new], sum(bool(each.known) for each in report.results)
    runs, found = f"{len(report.results)} runs", f"{len(names)} failure{'' if len(names) == 1 else 's'}"
    if explored := report.exploration:
        others = sum(not each.identity for each in report.results)
        runs = f"{others} run{'' if others == 1 else 's'} and {explored.cases - len(explored.left_out)} cases"
    if report.interrupted:
        return f"Interrupted: {found} in {runs} so far."
    if names and explored:
        return f"Failed: {found} in {runs}."
    if names:
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        shown = ", ".join(names[:_NAMES_SHOWN]) + more
        return f"Failed: {len(names)} of {runs} have a verdict against the program: {shown}."
    return f"Passed: no verdict failed in {runs}{f' that is not known, and {known} known' if known else ''}."


def to_dict(report: DrillReport) -> dict[str, Any]:
    """Return a report as values that JSON has."""
    explored = report.exploration
    return {
        "command": [safe_text(each) for each in report.command],
        "passed": report.has_passed,
        "summary": safe_text(closing_line(report)),
        "problem": safe_text(report.problem),
        "interrupted": bool(report.interrupted),
        "scenarios": [_scenario(each, report.problem) for each in report.results],
        "exploration": asdict(explored) | {"summary": safe_text(explored.describe())} if explored else None,
        "fixed": [asdict(each) for each in report.fixed],
        "not_visible": list(NOT_VISIBLE),
    }


def _scenario(result: ScenarioResult, problem: str) -> dict[str, Any]:
    rules = {each.name: each for each in RULES}
    return {
        "name": safe_text(result.name),
        "outcome": outcome_of(result, problem),
        "line": verdicts_line(result),
        "end": describe_exit(result),
        "exit_code": result.seen.exit.code,
        "seconds": round(result.seconds, 3),
        "calls": len(result.seen.calls),
        "credits": plain(result.bill.credits),
        "notes": [safe_text(each) for each in result.notes],
        "repeat": safe_text(result.repeat),
        "verdicts": [
            {
                "name": name,
                "outcome": each.outcome,
                "known": name in result.known,
                "reason": safe_text(each.reason),
                "evidence": [{"seconds": round(one.seconds, 3), "what": safe_text(one.what)} for one in each.evidence],
                "rule": rules[name].rule,
                "source": rules[name].source,
            }
            for name, each in result.findings.items()
        ],
    }


def to_json(report: DrillReport) -> str:
    """Return a report as JSON."""
    return json.dumps(to_dict(report), indent=2) + "\n"


def to_junit(report: DrillReport) -> str:
    """Return a report as JUnit XML: a suite for each scenario, with a test case for each verdict."""
    root = Element("testsuites", name=_NAME)
    for scenario in to_dict(report)["scenarios"]:
        suite = SubElement(root, "testsuite", name=scenario["name"], time=f"{scenario['seconds']:.3f}")
        for verdict in scenario["verdicts"]:
            case = SubElement(suite, "testcase", classname=scenario["name"], name=verdict["name"], time="0")
            if verdict["known"]:
                SubElement(case, "skipped", message=f"known: {verdict['reason']}")
            elif verdict["outcome"] == "failed":
                failure = SubElement(case, "failure", message=verdict["reason"])
                failure.text = _details(verdict) + (f"\nRepeat: {scenario['repeat']}" if scenario["repeat"] else "")
            elif verdict["outcome"] == "not judged":
                SubElement(case, "skipped", message=verdict["reason"])
        if report.problem:
            case = SubElement(suite, "testcase", classname=scenario["name"], name="control", time="0")
            SubElement(case, "error", message=report.problem)
        for name, path in {"tests": "", "failures": "failure", "errors": "error", "skipped": "skipped"}.items():
            suite.set(name, str(len(suite.findall(f"testcase/{path}" if path else "testcase"))))
    indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n'


def safe_text(text: str) -> str:
    """Return a text with escapes for the characters that XML and UTF-8 cannot carry, as arguments may have them."""
    return _NOT_XML.sub(lambda match: ascii(match[0])[1:-1], text)


def _details(verdict: Mapping[str, Any]) -> str:
    evidence = [f"{one['seconds']:.1f} s: {one['what']}" for one in verdict["evidence"]]
    return "\n".join([*evidence, f"Rule: {verdict['rule']}", f"Source: {verdict['source']}."])


def to_markdown(report: DrillReport) -> str:
    """Return a report as Markdown."""
    content = to_dict(report)
    lines = [f"## Drill: {_escaped(content['summary'])}", "", "| Scenario | Outcome | End | Credits | Verdicts |"]
    lines.append("|---|---|---|---:|---|")
    for each in content["scenarios"]:
        cells = (each["name"], each["outcome"], each["end"], each["credits"], each["line"])
        lines.append(f"| {' | '.join(map(_escaped, cells))} |")
    for each in content["scenarios"]:
        for verdict in each["verdicts"]:
            if verdict["outcome"] == "failed":
                known = " (known)" if verdict["known"] else ""
                title = f"**{_escaped(each['name'])}, {verdict['name']}{known}**: {_escaped(verdict['reason'])}"
                lines += ["", title, "", *(f"- {_escaped(line)}" for line in _details(verdict).splitlines())]
        if each["repeat"]:
            # Indented code: nothing in it is markup, whatever the command contains.
            lines += ["", *map(_escaped, each["notes"]), "", f"    {' '.join(each['repeat'].split())}"]
    if explored := content["exploration"]:
        lines += ["", _escaped(explored["summary"])]
    lines += [f"- Gone since the baseline: {_escaped(each['identity'])}" for each in content["fixed"]]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def to_html(report: DrillReport) -> str:
    """Return a report as one HTML file that loads nothing, with a time line for each scenario."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # other reports need no templates

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content = to_dict(report)
    for each, result in zip(content["scenarios"], report.results, strict=True):
        verdicts = each["verdicts"]
        each["timeline"] = timeline_of(result.seen)
        each["failed"] = [one for one in verdicts if one["outcome"] == "failed"]
        each["passed"] = [one["name"] for one in verdicts if one["outcome"] == "passed"]
        each["unjudged"] = [(one["name"], one["reason"]) for one in verdicts if one["outcome"] == "not judged"]
        for one in each["failed"]:
            one["evidence"] = [f"{at['seconds']:.1f} s: {at['what']}" for at in one["evidence"]]
    return environment.get_template("report.html.jinja").render(
        results=content["scenarios"],
        command=shlex.join(content["command"]),
        closing=content["summary"],
        outcome="passed" if report.has_passed else "failed",
        passed=report.has_passed,
        problem=content["problem"],
        not_visible=NOT_VISIBLE,
        explored=content["exploration"],
        fixed=content["fixed"],
    )


FORMATS: Final[Mapping[str, Callable[[DrillReport], str]]] = {
    "json_file": to_json,
    "junit": to_junit,
    "markdown": to_markdown,
    "html": to_html,
}
"""The functions that render a report, by the option that names its file."""
