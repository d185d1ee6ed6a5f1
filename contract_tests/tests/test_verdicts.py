"""Every report, the pytest suite and the exit code agree on what was judged and on what it amounts to."""

import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from seedbed_contract import http, session, tasks
from seedbed_contract.checker import Options, Run
from seedbed_contract.checks import CHECKS
from seedbed_contract.findings import CheckResult, Finding, Report, Sample, Stop
from seedbed_contract.reports import html_report, json_report, junit_report, markdown_report
from seedbed_contract.reports.terminal import show
from seedbed_contract.reports.verdict import (
    baseline_of,
    compare,
    status_of,
    verdict_of,
)
from seedbed_contract.target import target_of
from seedbed_mock import running
from seedbed_mock.cli import main
from seedbed_schemas.baseline import BaselineError, read_baseline
from tests.hostile_targets import Behaviour, redirects, returns_html, target
from tests.minimal_service import Served, serve
from tests.minimal_variants import Variant
from tests.seeded_defect import PLAIN
from tests.seeded_defects import SEEDED_DEFECTS

BARE = Variant(name="bare", operations=(), callbacks=False, signs=False, two_keys=False, fails=False)
ONLY = ("--only", "requests.refused", "--quiet")
DONE = CheckResult("requests.refused", "invalid requests are refused", 1.0, 0)
SKIPPED = CheckResult("faults.codes", "every code", 0.0, 0, "the target does not support faults", is_checked=False)


def finding(title: str = "a", level: Any = "error", check: str = "requests.refused") -> Finding:
    return Finding("input.prompt/maxLength", title, "says", "place", check, Sample("curl x", "HTTP 200"), level=level)


def report_of(*found: Finding, **known: Any) -> Report:
    return Report(
        "http://127.0.0.1:1", "documented", "envelope", 0, **{"findings": [*found], "checks": [DONE], **known}
    )


@pytest.fixture(scope="module")
def plain() -> Iterator[Served]:
    with serve(PLAIN) as served:
        yield served


@pytest.fixture(scope="module")
def bare() -> Iterator[Served]:
    with serve(BARE) as served:
        yield served


@pytest.fixture(scope="module")
def defective() -> Iterator[Served]:
    (defect,) = [defect for defect in SEEDED_DEFECTS if defect.name == "one character too many"]
    with defect.serve() as served:
        yield served


def check(served: Served, *words: str) -> int:
    return main(["check", served.url, "--key", served.key, *words])


# The verdict


@pytest.mark.parametrize(
    ("report", "code", "line"),
    [
        (report_of(), 0, "conforms"),
        (report_of(finding("a", "warning")), 0, "conforms, with 1 warning"),
        (report_of(finding("a", "warning"), fail_on="warning"), 1, "1 warning"),
        (report_of(finding()), 1, "1 finding"),
        (report_of(replace(finding(), is_known=True)), 0, "no new findings: 1 finding (1 known)"),
        (report_of(replace(finding("a", "warning"), is_known=True)), 0, "conforms, with 1 warning (1 known)"),
        (report_of(finding(), stop=Stop("time", "late")), 1, "1 finding (incomplete: late)"),
        (report_of(stop=Stop("time", "late")), 2, "not checked: late"),
        (report_of(undecided="no task ended"), 2, "not checked: no task ended"),
        (report_of(checks=[SKIPPED]), 2, "not checked: the target does not support faults"),
        (report_of(checks=[], stop=Stop("unusable", "it is dead")), 2, "not checked: it is dead"),
        (report_of(finding(), stop=Stop("internal error", "oops")), 3, "internal error: oops; 1 finding so far"),
        (report_of(stop=Stop("interrupted", "interrupted")), 130, "interrupted, no findings so far"),
        (report_of(finding(), stop=Stop("terminated", "terminated")), 143, "terminated, 1 finding so far"),
    ],
)
def test_the_verdict_and_the_exit_code_agree(report: Report, code: int, line: str) -> None:
    verdict = verdict_of(report)
    assert (verdict.exit_code, verdict.line[: len(line)]) == (code, line)
    document = json.loads(json_report.render(report))
    assert (document["exit_code"], document["verdict"]) == (code, verdict.line)
    assert document["is_complete"] == (report.stop is None)
    assert (document["outcome"] == "conforms") == line.startswith("conforms")
    assert ("✅" in markdown_report.render(report)) == line.startswith("conforms")
    for text in (html_report.render(report), junit_report.render(report), on_terminal(report)):
        assert line in text
    suite = ET.fromstring(junit_report.render(report))[0]  # noqa: S314 - our own output
    assert (suite.get("failures") != "0" or suite.get("errors") != "0") == (code != 0)


def on_terminal(report: Report, width: int = 200, *, verbose: bool = False) -> str:
    text = io.StringIO()
    show(report, Console(file=text, force_terminal=True, width=width, color_system=None), verbose=verbose)
    return text.getvalue()


def statuses_in(report: Report) -> dict[str, dict[str, str]]:
    """Return the status of each check as each report shows it."""
    rows = re.findall(r"^    (passed|failed|warned|skipped) +([\w.]+):", on_terminal(report), re.MULTILINE)
    page = re.findall(r"<td><code>([\w.]+)</code></td>.*?<span class=\"(\w+)\">", html_report.render(report), re.DOTALL)
    comment = re.findall(r"^- (\w+) <code>(.*?)</code>", markdown_report.render(report), re.MULTILINE)
    return {
        "terminal": {name: status for status, name in rows},
        "html": dict(page),
        "json": {row["name"]: row["status"] for row in json.loads(json_report.render(report))["checks"]},
        "markdown": {re.sub(r"&#(\d+);", lambda m: chr(int(m[1])), name): status for status, name in comment},
        "junit": statuses_in_junit(report),
    }


def statuses_in_junit(report: Report) -> dict[str, str]:
    """Return the status of each check; JUnit has none for warnings, which pass with output."""
    names = {check.name for check in report.checks}
    cases = [
        case
        for case in ET.fromstring(junit_report.render(report)).iter("testcase")  # noqa: S314 - our own output
        if case.get("classname") in names
    ]
    found: dict[str, str] = {}
    for case in cases:
        status = "failed" if case.find("failure") is not None else "passed"
        output = case.findtext("system-out", "")
        if status == "passed" and (output.startswith(("warning:", "error:")) or "finding" in output):
            status = "warned"
        status = "skipped" if case.find("skipped") is not None else status
        name = str(case.get("classname"))
        found[name] = "failed" if "failed" in {status, found.get(name)} else status
    return found


def test_every_report_gives_each_check_the_same_status() -> None:
    failing, mild = finding("a"), finding("b", "warning", "records.unknown")
    checks = [
        replace(DONE, findings=1),
        CheckResult("requests.raw", "bodies", 1.0, 1, seen=(failing.identity,)),
        CheckResult("records.unknown", "unknown tasks", 1.0, 1),
        CheckResult("records.later", "later", 1.0, 1, seen=(mild.identity,)),
        CheckResult("operations.models", "models", 1.0, 0, "the target does not support models"),
        SKIPPED,
    ]
    report = report_of(failing, mild, checks=checks)
    expected = dict(
        zip([each.name for each in checks], ["failed", "failed", "warned", "warned", "passed", "skipped"], strict=True)
    )
    assert {name: status_of(each, report) for name, each in zip(expected, checks, strict=True)} == expected
    assert statuses_in(report) == dict.fromkeys(("terminal", "html", "json", "markdown", "junit"), expected)


def test_what_a_server_lacks_is_skipped_in_every_report(bare: Served) -> None:
    run = Run(target_of(bare.url, bare.key, absent=frozenset({"callbacks"})), Options(only=LACKING))
    with run:
        for each in run.checks:
            run.run_check(each)
        report = run.report()
    expected = dict.fromkeys([each.name for each in run.checks], "skipped")
    assert statuses_in(report) == dict.fromkeys(("terminal", "html", "json", "markdown", "junit"), expected)
    assert verdict_of(report).exit_code == 2


LACKING = ("operations.models", "operations.download_url", "faults.codes", "callbacks.*", "accounts.tasks", "limits.c*")


# Exit codes


def _is_another_api(connection: socket.socket, _: threading.Event) -> None:
    connection.recv(1 << 16)
    body = b'{"detail": "Not Found"}'
    head = f"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


@pytest.mark.parametrize("behaviour", [redirects, returns_html, _is_another_api])
def test_another_kind_of_server_is_named_as_such(behaviour: Behaviour, capsys: pytest.CaptureFixture[str]) -> None:
    with target(behaviour) as url:
        assert main(["check", url, "--quiet"]) == 2
    printed = capsys.readouterr()
    assert printed.err.endswith("Is this the URL of the service?\ndocs: troubleshooting#no-server-to-check\n")
    assert printed.out == ""


def test_a_wrong_path_of_the_service_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    with running(task_seconds=0) as server:
        assert main(["check", f"{server.url}/api", "--key", server.key, "--quiet"]) == 2
    assert "Is this the URL of the service?" in capsys.readouterr().err


def test_a_host_that_does_not_resolve_is_reported_before_a_missing_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEEDBED_API_KEY", raising=False)
    # Labels of more than 63 characters are refused before any name server is asked.
    for words in ([], ["--key", "mine"]):
        assert main(["check", f"https://{'a' * 64}.invalid", *words]) == 2
        assert "cannot be resolved" in capsys.readouterr().err


class PausesOnly:
    """A clock for which only pauses take time, so that a slow machine does not use up a time limit."""

    time = staticmethod(time.time)

    def __init__(self) -> None:
        self._now = time.monotonic()

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


def test_tasks_that_never_end_leave_the_verdict_open(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = PausesOnly()
    for module in (http, session, tasks):
        monkeypatch.setattr(module, "time", clock)
    with serve(Variant(seconds=float("inf"))) as served:
        assert check(served, "--only", "records.ended", "--time-limit", "30", "--quiet") == 2
    assert "not checked: no task ended within the time" in capsys.readouterr().out


def test_a_time_limit_that_passes_leaves_the_verdict_open(plain: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(plain, "--time-limit", "0.4", "--quiet") == 2
    printed = capsys.readouterr()
    assert "the time limit" in printed.out + printed.err
    assert "conforms" not in printed.out


def test_a_local_server_without_callbacks_must_be_declared(bare: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(bare, "--only", "callbacks.delivered", "--quiet") == 1
    printed = capsys.readouterr().out
    assert "callback/sent" in printed
    assert "--without callbacks" in printed
    assert check(bare, "--only", "callbacks.*", "--only", "records.unknown", "--without", "callbacks", "--quiet") == 0
    assert "declared absent with --without callbacks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--without", "moon"], "Unknown capability 'moon' for --without"),
        (["--without", "credit", "--require", "credit"], "both --require and --without"),
        (["--write-baseline"], "--write-baseline needs a file"),
        (["--baseline", "/nowhere.json"], "No such file"),
        (["--max-failures", "-1"], "--max-failures must be 0 or more"),
    ],
)
def test_an_invalid_option_is_a_usage_error(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "http://127.0.0.1:9", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_internal_error_is_exit_code_3_with_a_report(
    plain: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a mistake of the checker")

    monkeypatch.setattr("seedbed_contract.tasks.poll_pending", fail)
    path = tmp_path / "report.json"
    assert check(plain, "--only", "requests.*", "--quiet", "--json-file", str(path)) == 3
    document = json.loads(path.read_text())
    assert (document["outcome"], document["exit_code"]) == ("internal error", 3)
    assert {row["status"] for row in document["checks"][1:]} == {"skipped"}
    printed = capsys.readouterr()
    assert "a mistake of the checker" in printed.out
    assert "Traceback" not in printed.out + printed.err


# Selected checks


def test_a_dry_run_lists_the_requests_of_the_selected_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "http://127.0.0.1:9", "--dry-run", "--only", "authorisation.*"]) == 0
    *planned, _ = capsys.readouterr().out.splitlines()
    assert planned
    assert {line.partition(":")[0] for line in planned} == {"authorisation.keys"}


GROUPS = sorted({each.name.partition(".")[0] for each in CHECKS if "." in each.name} - {"faults"})


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(f"{group}.*", marks=() if group in {"callbacks", "results"} else pytest.mark.slow)
        for group in GROUPS
    ],
)
def test_selected_checks_make_what_they_need(plain: Served, pattern: str) -> None:
    known = {"second_key": plain.second_key, "signing_key": plain.signing_key, "fail_prompt": plain.fail_prompt}
    run = Run(target_of(plain.url, plain.key, **known), Options(only=(pattern,), max_examples=10))
    with run:
        for each in run.checks:
            run.run_check(each)
        report = run.report()
    assert report.findings == []
    skipped = {each.name: each.reason for each in report.checks if not each.is_checked}
    assert skipped.keys() <= {"limits.credits"}  # the balance of this server is too large


# Stops


def stopped_run(served: Served, folder: Path, number: signal.Signals) -> tuple[int, str, dict[str, Path]]:
    """Send a signal to a run after its first check, and return its exit code, its output and its reports.

    The signal is sent again while the reports are written, as a process gets it that is signalled with its group, too.
    """
    files = {form: folder / f"{form}.report" for form in ("junit", "html", "json", "markdown")}
    words = [word for form, path in files.items() for word in (f"--{form}{'-file' * (form == 'json')}", str(path))]
    program = "from seedbed_mock.__main__ import command; raise SystemExit(command())"
    command = [sys.executable, "-c", program, "check", served.url, "--key", served.key, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        next(line for line in process.stderr if line.startswith("requests.raw"))
        process.send_signal(number)
        while process.poll() is None and not files["junit"].exists():
            pass
        process.send_signal(number)
        output = process.stdout.read() + process.stderr.read()
    return process.returncode, output, files


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stopped_run_writes_what_it_knows(
    defective: Served, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    returned, output, files = stopped_run(defective, tmp_path, number)
    assert returned == code, output
    assert "Traceback" not in output
    document = json.loads(files["json"].read_text())
    assert (document["outcome"], document["is_complete"]) == ("interrupted", False)
    assert [found["clause"] for found in document["findings"]] == ["input.prompt/maxLength"]
    assert len(document["checks"]) == len(CHECKS)
    assert document["checks"][-1]["reason"].startswith("not run: ")
    assert all("so far" in path.read_text() for path in files.values())


@pytest.mark.parametrize("words", [["--time-limit", "0.001"], []])
def test_reports_are_written_although_no_check_was_run(words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    assert main(["check", "http://127.0.0.1:9", "--junit", str(path), *words]) == 2
    assert 'errors="1"' in path.read_text()


def test_a_run_stops_after_enough_failures(defective: Served, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    words = ["--only", "requests.r*", "--quiet", "--json-file", str(path)]
    assert check(defective, *words, "--max-failures", "1") == 1
    document = json.loads(path.read_text())
    assert document["stop"]["kind"] == "failures"
    assert [row["status"] for row in document["checks"]] == ["failed", "skipped"]
    assert check(defective, *words, "--max-failures", "2") == 1
    assert json.loads(path.read_text())["is_complete"]


def test_an_interrupted_run_sends_nothing_more_from_its_threads(plain: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(target_of(plain.url, plain.key), Options(only=("requests.refused",)))
    with run:
        sent_by_main = threading.Event()
        original = run.transport.send

        def send(*args: Any, **named: Any) -> Any:
            exchange = original(*args, **named)
            if run.transport.sent > 20 and not sent_by_main.is_set():
                sent_by_main.set()
                raise KeyboardInterrupt
            return exchange

        monkeypatch.setattr(run.transport, "send", send)
        with pytest.raises(KeyboardInterrupt):
            run.run_check(run.checks[0])
        sent = run.transport.sent
        assert sent < 40
        assert run.transport.seconds_left <= 0


# The baseline


@pytest.mark.slow
def test_known_findings_do_not_fail_a_run_and_fixed_ones_are_named(
    defective: Served, plain: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline, path = tmp_path / "baseline.json", tmp_path / "report.json"
    assert check(defective, *ONLY, "--baseline", str(baseline), "--write-baseline") == 0
    assert check(defective, *ONLY, "--baseline", str(baseline), "--json-file", str(path)) == 0
    assert "no new findings: 1 finding (1 known)" in capsys.readouterr().out
    assert [found["is_known"] for found in json.loads(path.read_text())["findings"]] == [True]
    assert check(plain, *ONLY, "--baseline", str(baseline), "--json-file", str(path)) == 0
    assert [found["clause"] for found in json.loads(path.read_text())["fixed"]] == ["input.prompt/maxLength"]
    assert "fixed since the baseline" in capsys.readouterr().out
    baseline.write_text(baseline.read_text().replace("input.prompt", "input.other"))
    edited = json.loads(baseline.read_text())
    edited["findings"][0]["identity"] = "0"
    baseline.write_text(json.dumps(edited))
    assert check(defective, *ONLY, "--baseline", str(baseline)) == 1


def test_the_baseline_keeps_the_findings_of_checks_that_were_not_run() -> None:
    old = report_of(
        finding("a"), finding("b", check="records.unknown"), checks=[DONE, replace(DONE, name="records.unknown")]
    )
    known = read_baseline(baseline_of(old, []).encode(), "x")
    again = report_of(finding("c"))
    assert [entry.title for entry in compare(again, known).fixed] == ["a"]
    titles = sorted(entry.title for entry in read_baseline(baseline_of(again, known).encode(), "x"))
    assert titles == ["b", "c"]


def test_the_identity_of_a_finding_does_not_depend_on_times() -> None:
    assert finding("took 3123 ms").identity == finding("took 45678 ms").identity
    assert finding("has code 500").identity != finding("has code 501").identity
    assert finding("a", "warning").identity == finding("a").identity


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"{}", b"\xff", b"[" * 10**5, b'{"version": 2, "findings": []}'),
        *(b'{"version": 1, "findings": {"identity": "a"}}', b'{"version": 1, "findings": [{"identity": 1}]}'),
    ],
)
def test_a_corrupt_baseline_is_a_usage_error(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "baseline.json"
    path.write_bytes(content)
    with pytest.raises(BaselineError, match="--write-baseline"):
        read_baseline(content, "x")
    assert main(["check", "http://127.0.0.1:9", "--baseline", str(path)]) == 2
    printed = capsys.readouterr()
    assert f"{path} is not a baseline" in printed.err
    assert printed.err.count("\n") == 2


# What is shown


def test_findings_of_one_clause_are_grouped() -> None:
    other = replace(finding("third"), clause="code/422")
    text = on_terminal(report_of(finding("first"), other, finding("second", "warning")))
    assert text.count("input.prompt/maxLength") == 1
    assert text.index("first") < text.index("second") < text.index("third")


def test_a_long_command_is_shortened_unless_the_report_is_verbose() -> None:
    long = finding()
    long.sample = Sample(f"curl {'x' * 100_000}", "y" * 50_000)
    assert "y" * 801 not in on_terminal(report_of(long), 10**6)
    assert "more characters)" in on_terminal(report_of(long), 10**6)
    for text in (on_terminal(report_of(long), 10**6, verbose=True), html_report.render(report_of(long))):
        assert "x" * 100_000 in text
        assert "y" * 50_000 in text


def test_no_line_is_wider_than_a_narrow_terminal() -> None:
    report = report_of(finding("a title of several words"), checks=[DONE, SKIPPED])
    lines = [line for line in on_terminal(report, 40).splitlines() if "curl" not in line]
    assert max(map(len, lines)) <= 40


def test_long_strings_do_not_hide_the_fields_after_them() -> None:
    long = finding()
    for character in ("山", "a", "a b"):
        param = json.dumps({"input": json.dumps({"prompt": character * 3000})})
        long.sample = Sample("", json.dumps({"data": {"param": param, "costTime": 12}}))
        assert '"costTime": 12' in on_terminal(report_of(long))
        assert '"costTime": 12' in on_terminal(report_of(long), 10**6, verbose=True)
