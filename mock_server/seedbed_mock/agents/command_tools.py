"""The tools that run a command of another package as a process: check, drill and derive; and what explains an error."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from seedbed_schemas import documentation, job_api, shipped_contracts
from seedbed_schemas.contract import Contract, ContractError

from seedbed_mock.agents.answers import Answer, ToolError, one_line
from seedbed_mock.agents.programs import clean_environment
from seedbed_mock.agents.servers import load_contract
from seedbed_mock.agents.tool_inputs import (
    CheckAnswer,
    ClauseFinding,
    DeriveAnswer,
    DrillAnswer,
    Entry,
    ExplainAnswer,
    RunLine,
)
from seedbed_mock.faults.rules import EFFECTS
from seedbed_mock.faults.scenarios import shipped_scenarios

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from seedbed_mock.agents import tool_inputs as inputs
    from seedbed_mock.agents.programs import Finished
    from seedbed_mock.agents.toolbox import ToolCall


_SHOWN: Final = 10
_AFTER_FINDINGS: Final = "Correct the server; explain shows what a clause demands."
_AFTER_NOTHING: Final = "Pass more seconds, a server whose clock is real and not manual, and a balance for 60 tasks."
_KEY_VARIABLE: Final = "SEEDBED_API_KEY"
_TIME_LIMIT_MARGIN: Final = 5
"""Seconds that a check has to write its report after its own time limit."""


def _report_of(finished: Finished, name: str) -> dict[str, Any]:
    """Return the JSON report that a command has printed.

    Raises:
        ToolError: It has printed none.
    """
    try:
        report: dict[str, Any] = json.loads(finished.output)
    except ValueError:
        raise ToolError(
            f"seedbed {name} could not do it (exit code {finished.code}).",
            fix="See untrusted.errors for what it printed.",
            errors=finished.errors[-1500:],
        ) from None
    return report


# Check


async def check_server(call: ToolCall, wanted: inputs.CheckServer) -> Answer:
    """Run ``seedbed check`` on a server of this machine."""
    url = await call.servers.checked_url(wanted.url)
    if wanted.contract is not None:
        _require_files(call)
        load_contract(wanted.contract)
    environment = clean_environment(os.environ)
    if wanted.key:
        # Not on the command line, which other users of this machine can read.
        environment[_KEY_VARIABLE] = wanted.key
    limit = max(wanted.seconds - _TIME_LIMIT_MARGIN, 1)
    arguments = ["check", url, "--json", "--quiet", f"--time-limit={limit:g}"]
    arguments += [f"--only={pattern}" for pattern in wanted.only]
    arguments += [f"--contract={wanted.contract}"] if wanted.contract else []
    report = _report_of(await call.programs.run(arguments, environment, wanted.seconds, call.progress), "check")
    found, conforms = report["findings"], report["exit_code"] == 0
    return CheckAnswer(
        ok=True,
        summary=f"The server {'conforms' if conforms else 'does not conform, or this is not certain'}: "
        f"{len(found)} findings, {report['requests']} requests, {report['tasks']} tasks, {report['seconds']:.0f} s.",
        fix="" if conforms else _AFTER_FINDINGS if found else _AFTER_NOTHING,
        cut=[f"{len(found) - _SHOWN} more findings; correct these first, or pass only."] if len(found) > _SHOWN else [],
        conforms=conforms,
        findings=[ClauseFinding(each["check"], each["clause"], each["level"]) for each in found[:_SHOWN]],
        not_checked=len(report["not_checked"]),
        requests=report["requests"],
        tasks=report["tasks"],
        untrusted={
            "verdict": report["verdict"],
            "titles": [each["title"] for each in found[:_SHOWN]],
            "stop": report["stop"],
            "not_checked": [] if conforms else report["not_checked"][:_SHOWN],
        },
    )


def _require_files(call: ToolCall) -> None:
    """Check that the caller may use files: one that calls over HTTP may be another user of this machine.

    Raises:
        ToolError: It may not.
    """
    if not call.is_stdio:
        raise ToolError("This endpoint reads no files.", fix="Use seedbed mcp for files, or pass the text.")


# Drill


_NEVER_DRILLED: Final = re.compile(
    r"(?:sudo|doas|ssh|docker|podman|nerdctl|kubectl|nsenter|unshare|chroot|systemd-run)(?:\.exe)?"
)
"""Programs that start others elsewhere or with another environment, where paid calls would not be intercepted."""

_ALSO_WORDS: Final = frozenset({"su", "at", "batch", "crontab"})
"""Such programs whose names may also be words of a prompt."""

_SCRIPT_OPTION: Final = re.compile(r"-[a-z]*c")
_LEAVES_INTERCEPTION: Final = re.compile(
    r"--(?:live|max-credits|settle|spend|submit-again|noproxy|no-proxy|proxy|resolve|connect-to|ignore-environment|unset)"
    r"(?:[=\s\"'].*)?$"
    r"|(?:https?_proxy|no_proxy|all_proxy|pythonpath|node_options|seedbed_\w+|ssl_cert_file)\+?=",
    re.IGNORECASE,
)
"""Options and variables that lead calls past the mock server, or permit costs."""

_WORDS: Final = re.compile(r"[^\s;|&()<>`\"']+")


def check_command(command: Sequence[str]) -> None:
    """Check that a command does not obviously leave the environment in which its calls reach the mock server.

    This finds mistakes, and no program that means to leave it: see the page on agents in the documentation.

    Raises:
        ToolError: It does.
    """
    words: list[tuple[str, bool]] = []
    for before, part in zip(["", *command], command, strict=False):
        is_script = bool(_SCRIPT_OPTION.fullmatch(before))
        words += [(word, is_script) for word in (_WORDS.findall(part) if is_script else [part])]
    for place, (word, is_script) in enumerate(words):
        name = word.replace("\\", "/").rpartition("/")[2]
        following = [each for each, _ in words[place + 1 :]]
        leaves = _NEVER_DRILLED.fullmatch(name) or (name in _ALSO_WORDS and (place == 0 or is_script))
        clears = name == "env" and {"-i", "-", "-u", "-S"}.intersection(following)
        alone = re.fullmatch(r"python[\d.]*", name) and re.match(r"-[a-zA-Z]*[EIS]", "".join(following[:1]))
        if leaves or clears or alone or (name == "unset" and is_script) or _LEAVES_INTERCEPTION.match(word):
            raise ToolError(
                "The command has a word that can lead its calls past the mock server, or permits costs:"
                f" {one_line(word, 60)}. Nothing was run.",
                fix="Drill the program itself, without this word. If it needs it, the user can run seedbed drill.",
            )


async def drill_program(call: ToolCall, wanted: inputs.DrillProgram) -> Answer:
    """Run ``seedbed drill``."""
    check_command(wanted.command)
    known = shipped_scenarios()
    if unknown := [name for name in wanted.scenarios if name not in known]:
        raise ToolError(
            f"There is no built-in scenario {one_line(unknown[0], 60)}.", fix=f"Use one of {', '.join(known)}."
        )
    with tempfile.TemporaryDirectory(prefix="seedbed-mcp-") as folder:
        file = Path(folder) / "report.json"
        arguments = ["drill", "--egress=deny", f"--json-file={file}", f"--deadline={wanted.run_seconds:g}"]
        arguments += [f"--task-seconds={wanted.task_seconds:g}"]
        arguments += [f"--scenario={name}" for name in wanted.scenarios or ["double-charge"]]
        finished = await call.programs.run(
            [*arguments, "--", *wanted.command],
            clean_environment(os.environ, hides_secrets=True),
            wanted.seconds,
            call.progress,
        )
        output = file.read_text(encoding="utf-8") if file.exists() else ""
    report = _report_of(replace(finished, output=output), "drill")
    return _drill_answer(report)


def _drill_answer(report: Mapping[str, Any]) -> DrillAnswer:
    runs = report["scenarios"]
    failed = [[each for each in run["verdicts"] if each["outcome"] == "failed"] for run in runs]
    passed = report["passed"]
    names = sorted({each["name"] for verdicts in failed for each in verdicts})
    fix = "Correct the program as the broken rules say, and drill it again." if names else ""
    if report["problem"]:
        fix = "Nothing can be concluded; untrusted.problem says why. The program must get an image in the calm run."
    return DrillAnswer(
        ok=True,
        summary=f"The program {'passed' if passed else 'did not pass'}: {len(runs)} runs, "
        f"{f'broken rules: {chr(44).join(names)}' if names else 'no broken rule'}.",
        fix=fix,
        passed=passed,
        runs=[
            RunLine(run["name"], run["outcome"], run["end"], run["calls"], [each["name"] for each in verdicts])
            for run, verdicts in zip(runs, failed, strict=True)
        ],
        rules={each["name"]: each["rule"] for verdicts in failed for each in verdicts},
        untrusted={
            "problem": report["problem"],
            "evidence": [
                {"verdict": each["name"], "reason": each["reason"], "seen": [one["what"] for one in each["evidence"]]}
                for verdicts in failed
                for each in verdicts
            ][:_SHOWN],
            "notes": [note for run in runs for note in run["notes"]][:_SHOWN],
        },
    )


# Derive


async def derive_contract(call: ToolCall, wanted: inputs.DeriveContract) -> Answer:
    """Run ``seedbed derive``."""
    if (wanted.page_path is None) == (wanted.page_text is None):
        raise ToolError("The page is missing, or given twice.", fix="Pass either page_path or page_text.")
    if wanted.page_path or wanted.output_path:
        _require_files(call)
    with tempfile.TemporaryDirectory(prefix="seedbed-mcp-") as folder:
        page = Path(wanted.page_path) if wanted.page_path else Path(folder) / "page.md"
        if wanted.page_text is not None:
            page.write_text(wanted.page_text, encoding="utf-8", errors="replace")
        arguments = ["derive", str(page.absolute())]
        finished = await call.programs.run(arguments, clean_environment(os.environ), 60, call.progress)
    notes = [line.strip() for line in finished.errors.splitlines() if line.strip()]
    try:
        contract = Contract(msgspec.json.decode(finished.output))
    except (ContractError, ValueError):
        fix = "Pass the whole page with the parameters and the codes of the model, as Markdown, OpenAPI or JSON."
        raise ToolError("No contract can be derived from this page.", fix=fix, errors=notes[:_SHOWN]) from None
    if wanted.output_path:
        _write_new(Path(wanted.output_path), finished.output)
    operation = contract.operation
    return DeriveAnswer(
        ok=True,
        summary=f"A contract with {len(contract.clauses())} clauses and {len(contract.input_fields)} fields of the"
        f" input was derived; {len(notes)} remarks on the page.",
        fix="Read untrusted.notes: the page leaves these open." if notes else "",
        cut=[f"{len(notes) - _SHOWN} more remarks; run seedbed derive for all."] if len(notes) > _SHOWN else [],
        output_path=wanted.output_path or "",
        codes=[each.number for each in contract.codes],
        clauses=len(contract.clauses()),
        untrusted={
            "model": contract.model,
            "operation": f"{operation.method} {operation.path}",
            "fields": [*contract.input_fields],
            "notes": notes[:_SHOWN],
        },
    )


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ToolError(
            f"The contract cannot be written ({error.strerror}).", fix="Pass another output_path."
        ) from error


# Explain


async def explain(call: ToolCall, wanted: inputs.Explain) -> Answer:
    """Explain a code, a clause, an effect, or the text of an error."""
    if wanted.contract is not None:
        _require_files(call)
        contracts: tuple[Contract, ...] = (load_contract(wanted.contract),)
    else:
        contracts = shipped_contracts()
        with contextlib.suppress(ToolError):  # without a server, the shipped contracts are explained
            contracts = tuple((await call.servers.door(None)).contracts.values())
    text = wanted.text.strip()
    entries = list(dict.fromkeys(_entries(text, contracts)))
    if entries:
        cut = [f"{len(entries) - _SHOWN} more entries; pass more of the text."] if len(entries) > _SHOWN else []
        shown, is_own = entries[:_SHOWN], all(each in shipped_contracts() for each in contracts)
        return ExplainAnswer(
            ok=True,
            summary=f"{len(entries)} entries{'' if is_own else ', under untrusted, since they quote a page'}.",
            cut=cut,
            entries=shown if is_own else [],
            untrusted={} if is_own else {"entries": msgspec.to_builtins(shown)},
        )
    names = [*EFFECTS, *(each.id for contract in contracts for each in contract.clauses())]
    near = get_close_matches(text, names, 5, 0.5)
    fix = f"Did you mean {', '.join(near)}?" if near else "Pass a code, the ID of a clause, an effect or an error."
    raise ToolError("Nothing is known about this text.", fix=fix)


def _entries(text: str, contracts: Sequence[Contract]) -> Iterator[Entry]:
    yield from _codes(text, contracts)
    for contract in contracts:
        for clause in (*contract.clauses(), *job_api().clauses()):
            if text in {clause.id, clause.id.partition("/")[0]}:
                value = one_line(msgspec.json.encode(clause.value).decode())
                yield Entry("clause", clause.id, f"{clause.kind}: {value} ({clause.level})", "contract")
    if effect := EFFECTS.get(text.partition(";")[0].partition(" ")[0]):
        yield Entry("effect", effect.name, one_line(effect.__doc__ or "", 300), "faults")
    with contextlib.suppress(documentation.UnknownTopicError):
        found, is_error = documentation.explain(text), documentation.entry_of(text) is not None
        step = f" Find out: {found.step}" if found.step else ""
        about = re.sub(r"```text\n.*?```", "", found.markdown.partition("\n")[2], flags=re.DOTALL)
        kind = "error" if is_error else "docs"
        yield Entry(kind, found.title, f"{one_line(about, 500)}{step}", found.topic)


def _codes(text: str, contracts: Sequence[Contract]) -> Iterator[Entry]:
    if not (found := re.fullmatch(r"(?:code )?(-?\d{1,9})", text)):
        return
    number = int(found[1])
    for contract in contracts:
        for code in contract.codes:
            if code.number == number:
                yield Entry("code", str(number), f"{code.name}: {one_line(code.description, 300)}", "contract")
