"""What the tools do on a mock server: tasks, the journal, faults, the clock and verification."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from seedbed_schemas import job_api, local
from seedbed_schemas.openapi import example_of

from seedbed_mock.agents.answers import Answer, ToolError
from seedbed_mock.agents.reach import path_part
from seedbed_mock.agents.refusals import broken_clauses, near_rules
from seedbed_mock.agents.tool_inputs import (
    CallLine,
    CallsAnswer,
    ClockAnswer,
    FaultsAnswer,
    RuleLine,
    ServerAnswer,
    TaskAnswer,
    TaskLine,
    VerifyAnswer,
)
from seedbed_mock.faults.scenarios import shipped_scenarios

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from seedbed_mock.agents import tool_inputs as inputs
    from seedbed_mock.agents.programs import Programs
    from seedbed_mock.agents.reach import Door
    from seedbed_mock.agents.servers import Servers


_POLL_SECONDS: Final = 0.2
_MOST_SEARCHED: Final = 1000
_LEAST_TURN: Final = 0.001
_MOST_URLS: Final = 8


@dataclass(frozen=True)
class ToolCall:
    """What a call of a tool works with.

    Attributes:
        servers: Finds the server.
        programs: Runs commands as processes.
        progress: Takes the progress: how far it is, the end, and a sentence.
        is_stdio: Whether the caller has started this process, so that it may use its files and run programs.
    """

    servers: Servers
    programs: Programs
    progress: Callable[[float, float, str], Awaitable[None]]
    is_stdio: bool = True


async def start_server(call: ToolCall, wanted: inputs.StartServer) -> Answer:
    """Start a mock server in the process of ``seedbed mcp``."""
    door = await call.servers.start(wanted)
    return ServerAnswer(
        ok=True,
        summary=f"A mock server runs on {door.url} until stop_server, or until this session ends.",
        url=door.url,
        key=door.key,
        models=[*door.contracts],
        environment={local.BASE_URL_VARIABLE: door.url, "SEEDBED_API_KEY": door.key},
    )


async def stop_server(call: ToolCall, wanted: inputs.OfServer) -> Answer:
    """Stop a server of start_server."""
    url = await call.servers.stop(wanted.url)
    return ServerAnswer(ok=True, summary="The server has stopped; its tasks and its journal are gone.", url=url)


# Tasks


async def create_task(call: ToolCall, wanted: inputs.CreateTask) -> Answer:
    """Send createTask, and follow the task to its end."""
    door = await call.servers.door(wanted.url)
    model = wanted.model or next(iter(door.contracts))
    if (contract := door.contracts.get(model)) is None:
        raise ToolError("The server has no such model.", fix=f"Its models: {', '.join(door.contracts)}.")
    operation = contract.operation
    request = example_of(contract.part("request")) if wanted.request is None else wanted.request
    mark = f"seedbed-mcp/{token_hex(6)}"
    reply = await door.send(
        operation.method,
        operation.path,
        {
            operation.header: f"{operation.scheme} {wanted.key or door.key}".strip(),
            "Content-Type": "application/json",
            "User-Agent": mark,
        },
        msgspec.json.encode(request),
    )
    # The journal names the task, whatever the shape of the response is, and whoever else calls the server.
    entries = (await door.control("GET", "journal", operation="createTask", limit=_MOST_SEARCHED))["entries"]
    entry = next((each for each in reversed(entries) if each["headers"].get("user-agent") == mark), None)
    task_id = entry["task_id"] if entry else ""
    if not entry or not task_id or _is_refused(entry):
        why = await _explained(door, entry) if entry else CallsAnswer()
        return TaskAnswer(
            ok=False,
            summary=f"The request was refused with HTTP {reply.status}"
            + (f" and code {entry['code']}: {why.summary}" if entry else "."),
            fix=why.fix or "Call journal with last_refused.",
            code=entry["code"] if entry else None,
            status=reply.status,
            task_id=task_id,
            broken=why.broken,
            untrusted=why.untrusted or {"response": reply.body.decode(errors="replace")},
        )
    await _follow(call, door, task_id, wanted)
    answer = await _task_answer(door, task_id)
    answer.code, answer.status = entry["code"], reply.status
    return answer


async def _follow(call: ToolCall, door: Door, task_id: str, wanted: inputs.CreateTask) -> None:
    """Turn the clock to the end of a task, or wait for it, for as long as is wanted."""
    started = time.monotonic()
    while wanted.follow != "no" and (passed := time.monotonic() - started) < wanted.seconds:
        task = await door.control("GET", f"tasks/{path_part(task_id)}")
        if task["state"] in _final_states():
            return
        now = (await door.control("GET", "clock"))["now"]
        if wanted.follow == "advance" and task["ends"] is not None:
            await door.control("POST", "clock", {"advance": max((task["ends"] - now) / 1000, _LEAST_TURN)})
            continue
        await call.progress(passed, wanted.seconds, f"The task is {task['state']}.")
        await anyio.sleep(_POLL_SECONDS)
        if task["ends"] is None:
            # With --progress polls:N, only polls move it on.
            shared, operation = job_api().record_info, next(iter(door.contracts.values())).operation
            target = f"{shared.path}?{shared.query}={path_part(task_id)}"
            key = f"{operation.scheme} {wanted.key or door.key}".strip()
            await door.send(shared.method, target, {operation.header: key})


def _final_states() -> tuple[str, str]:
    states = job_api().states
    return states.success, states.failure


async def get_task(call: ToolCall, wanted: inputs.GetTask) -> Answer:
    """Return a task, or a list of tasks."""
    door = await call.servers.door(wanted.url)
    if wanted.task_id is not None:
        return await _task_answer(door, wanted.task_id)
    page = await door.control("GET", "tasks", state=wanted.state, limit=wanted.limit, before=wanted.before)
    tasks = [TaskLine(each["task_id"], each["state"], each["price"], each["refunded"]) for each in page["tasks"]]
    before = page.get("before")
    return TaskAnswer(
        ok=True,
        summary=f"{len(tasks)} tasks, newest first." if tasks else "No such task.",
        cut=[f"There are older tasks; pass before={before}."] if before else [],
        tasks=tasks,
        before=before,
    )


async def _task_answer(door: Door, task_id: str) -> TaskAnswer:
    task = await door.control("GET", f"tasks/{path_part(task_id)}")
    state, failure, callback = task["state"], task["failure"], task["callback"]
    has_ended, fix = state in _final_states(), ""
    if state == job_api().states.failure:
        fix = "It failed as a fault rule or the control API demanded; call journal with this task_id."
    elif not has_ended:
        fix = "Advance the clock with the tool clock, or wait, and call get_task."
    record = task["record"]
    with contextlib.suppress(ValueError, TypeError, KeyError):
        record = {**record, "resultJson": msgspec.json.decode(record["resultJson"])}
    return TaskAnswer(
        ok=True,
        summary=f"The task is in the state {state}" + (", which is final." if has_ended else "; it has not ended."),
        fix=fix,
        task_id=task["task_id"],
        state=state,
        price=task["price"],
        result_urls=_urls_of(record, door) if state == job_api().states.success else [],
        untrusted={
            "record": record,
            "failure": failure,
            "callback": {"url": callback["url"], "outcome": callback["outcome"]} if callback else None,
        },
    )


def _urls_of(record: Mapping[str, Any], door: Door) -> list[str]:
    """Return the URLs of a record that lead to the mock server itself; a fault can name others."""
    found: list[str] = []
    values: list[Any] = [dict(record)]
    while values and len(found) < _MOST_URLS:
        value = values.pop()
        if isinstance(value, str) and value.startswith(f"{door.url}/"):
            found.append(value)
        elif isinstance(value, dict | list):
            values += value.values() if isinstance(value, dict) else value
    return found


# The journal


async def read_journal(call: ToolCall, wanted: inputs.ReadJournal) -> Answer:
    """Return a call with its explanation, or a list of calls."""
    door = await call.servers.door(wanted.url)
    if wanted.number is not None:
        found = await door.control("GET", "journal", before=wanted.number + 1, limit=1)
        if not found["entries"] or found["entries"][0]["number"] != wanted.number:
            raise ToolError("The journal has no such call.", fix="Call journal without a number for the latest calls.")
        return await _explained(door, found["entries"][0])
    page = await door.control(
        "GET",
        "journal",
        operation=wanted.operation,
        task_id=wanted.task_id,
        limit=_MOST_SEARCHED if wanted.last_refused else wanted.limit,
        before=wanted.before,
    )
    if wanted.last_refused:
        entries = page["entries"]
        if entry := next(filter(_is_refused, reversed(entries)), None):
            return await _explained(door, entry)
        return CallsAnswer(ok=True, summary=f"None of the latest {len(entries)} calls was refused or had a fault.")
    calls, before = [_line(each) for each in page["entries"]], page.get("before")
    refused = sum(map(_is_refused, page["entries"]))
    return CallsAnswer(
        ok=True,
        summary=f"{len(calls)} calls, oldest first; {refused} of them were refused or had a fault.",
        fix="Call journal with the number of a call to see why." if refused else "",
        cut=[f"There may be older calls; pass before={before}."] if before else [],
        calls=calls,
        before=before,
    )


def _is_refused(entry: Mapping[str, Any]) -> bool:
    """Return whether a call was refused, had a fault or matched no operation."""
    return bool(entry["handler"] or entry["fault"] or entry["kind"] == "unmatched")


def _line(entry: Mapping[str, Any]) -> CallLine:
    return CallLine(
        number=entry["number"],
        operation=entry["operation"],
        code=entry["code"],
        status=entry["status"],
        case=entry["case"] if _is_refused(entry) else "",
        violations=entry["violations"],
        fault=bool(entry["fault"]),
        task_id=entry["task_id"],
    )


async def _explained(door: Door, entry: Mapping[str, Any]) -> CallsAnswer:
    """Return an entry of the journal with all that explains it."""
    faults = (await door.control("GET", "faults"))["faults"]
    broken = broken_clauses(entry, door.contracts)
    near = near_rules(entry, faults)
    summary, fix = _diagnosis(entry, [each.field for each in broken])
    if not entry["fault"] and near:
        fix = f"{fix} No fault rule applied; near_rules shows what kept the nearest ones from it.".strip()
    return CallsAnswer(
        ok=True,
        summary=summary,
        fix=fix,
        call=_line(entry),
        handler=entry["handler"],
        broken=broken,
        fault=entry["fault"] if "by control" in entry["fault"] or "by scenario" in entry["fault"] else "",
        near_rules=near,
        nearest_operation=entry["nearest"],
        untrusted={
            "reason": entry["reason"] or entry["hint"],
            "rule_of_the_request": entry["fault"],
            "target": entry["target"],
            "request": entry["request"],
            "response": entry["answer"],
        },
    )


def _diagnosis(entry: Mapping[str, Any], fields: list[str]) -> tuple[str, str]:
    """Return in a sentence what became of a call, and what to do."""
    name = f"Call {entry['number']} ({entry['operation']})"
    if entry["kind"] == "callback":
        return f"{name} is an attempt to deliver a callback; HTTP status {entry['status']}.", ""
    if entry["fault"]:
        return (
            f"{name} got a fault that a rule injected: code {entry['code']}, HTTP status {entry['status']}.",
            "The program must cope with this fault; to end it, remove the rule with the tool faults.",
        )
    if entry["kind"] == "unmatched":
        nearest = entry["nearest"]
        summary = f"{name} matches no operation" + (f"; it was likely meant for {nearest}." if nearest else ".")
        return summary, "Correct the path and the method; untrusted.reason says what is wrong with them."
    if fields:
        summary = f"{name} was refused with code {entry['code']}: it breaks the contract in {', '.join(fields)}."
        return summary, "Change these fields as broken.demand says."
    if entry["handler"]:
        summary = f"{name} was refused with code {entry['code']}; case {entry['case']}, handler {entry['handler']}."
        return summary, "untrusted.reason says why, and what to do."
    return f"{name} succeeded with code {entry['code']}.", ""


# Faults, clock, verification


async def change_faults(call: ToolCall, wanted: inputs.ChangeFaults) -> Answer:
    """List, add and remove fault rules, and play scenarios."""
    needed = {"add": wanted.rules, "remove": wanted.number, "play_scenario": wanted.scenario}
    if wanted.action in needed and not needed[wanted.action]:
        field = {"add": "rules", "remove": "number"}.get(wanted.action, "scenario")
        raise ToolError(f"The action {wanted.action} needs the field {field}.", fix=f"Pass {field}, too.")
    door = await call.servers.door(wanted.url)
    listed = await {
        "list": lambda: door.control("GET", "faults"),
        "add": lambda: door.control("POST", "faults", {"rules": wanted.rules}),
        "remove": lambda: door.control("DELETE", "faults", number=wanted.number),
        "clear": lambda: door.control("DELETE", "faults"),
        "play_scenario": lambda: door.control("POST", "scenario", {"name": wanted.scenario}),
        "stop_scenario": lambda: door.control("DELETE", "scenario"),
    }[wanted.action]()
    rules, scenario = listed["faults"], listed["scenario"]
    playing = f" The scenario {scenario['name']} plays." if scenario else ""
    return FaultsAnswer(
        ok=True,
        summary=f"{len(rules)} fault rules are active.{playing}",
        fix="docs/faults.md lists the effects; explain shows one." if wanted.action == "list" and not rules else "",
        rules=[RuleLine(each["number"], each["rule"], each["source"], each["hits"]) for each in rules],
        scenario=scenario["name"] if scenario else "",
        phase=(scenario["phase"] or "") if scenario else "",
        scenarios=[*shipped_scenarios()] if wanted.action == "list" else [],
    )


async def turn_clock(call: ToolCall, wanted: inputs.TurnClock) -> Answer:
    """Read the clock, or advance it."""
    door = await call.servers.door(wanted.url)
    advance = wanted.advance_seconds
    clock = await (door.control("POST", "clock", {"advance": advance}) if advance else door.control("GET", "clock"))
    moved = f"The clock was advanced by {advance:g} s" if advance else "The clock was read"
    return ClockAnswer(ok=True, summary=f"{moved}.", now=clock["now"], speed=clock["speed"])


async def verify_calls(call: ToolCall, wanted: inputs.VerifyCalls) -> Answer:
    """Check whether expected calls were made."""
    door = await call.servers.door(wanted.url)
    expected = {name: value for name, value in msgspec.to_builtins(wanted).items() if value is not None}
    expected.pop("url", None)
    verdict = await door.control("POST", "verify", expected)
    is_verified, matched = verdict["verified"], verdict["matched"]
    return VerifyAnswer(
        ok=True,
        summary=f"{wanted.operation} was called as expected {matched} times."
        if is_verified
        else f"Not verified: {matched} calls of {wanted.operation} match.",
        fix="" if is_verified else "Compare untrusted.near_misses with what you expected.",
        verified=is_verified,
        matched=matched,
        untrusted={} if is_verified else {"message": verdict["message"], "near_misses": verdict["near_misses"]},
    )
