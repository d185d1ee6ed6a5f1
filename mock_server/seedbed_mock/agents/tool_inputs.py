"""What the tools take and what they answer; their schemas are generated from these types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from seedbed_mock.agents.answers import Answer
from seedbed_mock.agents.refusals import BrokenClause, RuleCase

_Url = Annotated[
    str,
    Meta(
        max_length=2000,
        description="Base URL of a server on this machine; omit it for the server of start_server. Other hosts are"
        " refused.",
    ),
]
_Path = Annotated[str, Meta(min_length=1, max_length=1000)]
_TaskId = Annotated[str, Meta(min_length=1, max_length=200, description="ID of a task.")]
_Key = Annotated[
    str, Meta(min_length=1, max_length=200, description="API key of the local server, never one of the paid service.")
]
_Seconds = Annotated[float, Meta(ge=1, le=3600, description="Deadline in seconds.")]
_Before = Annotated[int, Meta(ge=1, description="Value of before in the previous answer, to continue its list.")]


class ToolInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base class of the inputs; unknown names are refused, because they are likely mistakes."""


class OfServer(ToolInput, frozen=True):
    """Base class of the inputs of tools that act on a server."""

    url: _Url | None = None


class StartServer(ToolInput, frozen=True):
    """Options of a mock server."""

    clock: Annotated[Literal["real", "manual"], Meta(description="manual: time advances only with the tool clock.")] = (
        "real"
    )
    task_seconds: Annotated[float, Meta(ge=0, le=3600, description="Duration of a task; 0 ends it at once.")] = 3
    dialect: Annotated[
        Literal["documented", "observed"],
        Meta(description="documented: as the page says; observed: as the real service is known to respond."),
    ] = "documented"
    http_status: Annotated[
        Literal["envelope", "mirror"], Meta(description="mirror: the HTTP status is the code of the body.")
    ] = "envelope"
    contract: Annotated[_Path, Meta(description="File of derive_contract, to serve another model, too.")] | None = None
    scenario: Annotated[str, Meta(max_length=100, description="Built-in scenario of faults.")] | None = None
    credits: Annotated[float, Meta(ge=0, le=1_000_000, description="Balance of the account at the start.")] = 80
    port: Annotated[int, Meta(ge=0, le=65535, description="0 picks a free port.")] = 0
    seed: Annotated[int, Meta(ge=0, le=2**31, description="Seed of everything random.")] = 0


class CreateTask(OfServer, frozen=True):
    """The request of a task."""

    request: (
        Annotated[dict[str, Any], Meta(description="Body of the request; by default a valid one of the model.")] | None
    ) = None
    model: Annotated[str, Meta(max_length=200, description="Model of the default request.")] | None = None
    key: _Key | None = None
    follow: Annotated[
        Literal["advance", "wait", "no"],
        Meta(description="advance: turn the clock to the end of the task; wait: wait for it; no: return at once."),
    ] = "advance"
    seconds: Annotated[float, Meta(ge=1, le=600, description="Longest wait for the end.")] = 60


class GetTask(OfServer, frozen=True):
    """Which tasks to show."""

    task_id: _TaskId | None = None
    state: Annotated[str, Meta(max_length=50, description="Only tasks in this state.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=50, description="Largest number of tasks.")] = 10
    before: _Before | None = None


class ReadJournal(OfServer, frozen=True):
    """Which calls to show."""

    number: Annotated[int, Meta(ge=1, description="One call, with all that explains it.")] | None = None
    last_refused: Annotated[bool, Meta(description="Explain the latest call that was refused or had a fault.")] = False
    task_id: _TaskId | None = None
    operation: Annotated[str, Meta(max_length=50, description="Name of an operation, such as createTask.")] | None = (
        None
    )
    limit: Annotated[int, Meta(ge=1, le=50, description="Largest number of calls; the newest are listed.")] = 20
    before: _Before | None = None


class ChangeFaults(OfServer, frozen=True):
    """What to do with fault rules and scenarios."""

    action: Literal["list", "add", "remove", "clear", "play_scenario", "stop_scenario"] = "list"
    rules: Annotated[
        list[Annotated[str, Meta(max_length=2000)]],
        Meta(max_length=100, description='Rules to add, such as "429; times=2" or "task.fail; p=0.1".'),
    ] = []
    number: Annotated[int, Meta(ge=1, description="Number of the rule to remove.")] | None = None
    scenario: Annotated[str, Meta(max_length=100, description="Built-in scenario to play.")] | None = None


class TurnClock(OfServer, frozen=True):
    """How far to turn the clock."""

    advance_seconds: Annotated[float, Meta(ge=0, le=10_000_000, description="0 only reads the clock.")] = 0


class VerifyCalls(OfServer, frozen=True):
    """Expected calls of an operation; by default at least one."""

    operation: Annotated[str, Meta(max_length=50, description="Name of the operation.")] = "createTask"
    times: Annotated[int, Meta(ge=0, description="Exact number of calls.")] | None = None
    at_least: Annotated[int, Meta(ge=0, description="Smallest number of calls.")] | None = None
    at_most: Annotated[int, Meta(ge=0, description="Largest number of calls.")] | None = None
    request: Annotated[dict[str, Any], Meta(description="Values that the request contains.")] = {}
    code: Annotated[int, Meta(description="Code in the body of the response.")] | None = None


class CheckServer(OfServer, frozen=True):
    """Which server to check against the contract."""

    key: _Key | None = None
    contract: Annotated[_Path, Meta(description="File of derive_contract; by default the built-in model.")] | None = (
        None
    )
    only: Annotated[
        list[Annotated[str, Meta(max_length=100, pattern="^[a-zA-Z*][a-zA-Z.*_-]*$")]],
        Meta(max_length=20, description="Patterns of the names of checks, such as callbacks.*"),
    ] = []
    seconds: _Seconds = 300


class DrillProgram(ToolInput, frozen=True):
    """Which program to drill."""

    command: Annotated[
        list[Annotated[str, Meta(max_length=4000)]],
        Meta(min_length=1, max_length=100, description="Program and its arguments, such as [python, app.py]."),
    ]
    scenarios: Annotated[
        list[Annotated[str, Meta(max_length=100)]],
        Meta(
            max_length=30,
            description="Built-in scenarios, as the tool faults lists them; by default double-charge.",
        ),
    ] = []
    task_seconds: Annotated[float, Meta(ge=0, le=600, description="Duration of a task.")] = 1
    run_seconds: Annotated[float, Meta(ge=1, le=600, description="Deadline of each run.")] = 60
    seconds: _Seconds = 600


class DeriveContract(ToolInput, frozen=True):
    """The page to derive a contract from."""

    page_path: Annotated[_Path, Meta(description="File with the page.")] | None = None
    page_text: Annotated[str, Meta(max_length=1_000_000, description="Text of the page, instead of a file.")] | None = (
        None
    )
    output_path: (
        Annotated[_Path, Meta(description="New file for the contract, for start_server and check_server.")] | None
    ) = None


class Explain(ToolInput, frozen=True):
    """What to explain."""

    text: Annotated[
        str, Meta(min_length=1, max_length=2000, description="An error message, a code, a clause or a fault effect.")
    ]
    contract: Annotated[_Path, Meta(description="File of derive_contract; by default the built-in models.")] | None = (
        None
    )


# Answers


class ServerAnswer(Answer, omit_defaults=True, kw_only=True):
    """A server that runs."""

    url: Annotated[str, Meta(description="Base URL.")] = ""
    key: Annotated[str, Meta(description="API key that it accepts.")] = ""
    models: Annotated[list[str], Meta(description="Names of its models.")] = []
    environment: Annotated[dict[str, str], Meta(description="Variables for programs that call it.")] = {}


class TaskLine(msgspec.Struct, omit_defaults=True):
    """A task in a list."""

    task_id: str
    state: str
    price: Annotated[float, Meta(description="Charged credits.")] = 0
    is_refunded: bool = False


class TaskAnswer(Answer, omit_defaults=True, kw_only=True):
    """A task, or a list of tasks."""

    task_id: str = ""
    state: str = ""
    code: Annotated[int | None, Meta(description="Code of the response to the request.")] = None
    status: Annotated[int | None, Meta(description="HTTP status of that response.")] = None
    price: Annotated[float, Meta(description="Charged credits.")] = 0
    broken: Annotated[list[BrokenClause], Meta(description="The clauses that the request breaks.")] = []
    result_urls: Annotated[list[str], Meta(description="Where its images are, on the mock server.")] = []
    tasks: list[TaskLine] = []
    before: Annotated[int | None, Meta(description="Continues the list.")] = None


class CallLine(msgspec.Struct, omit_defaults=True):
    """A call in a list."""

    number: Annotated[int, Meta(description="Pass it as number to explain the call.")]
    operation: str
    code: int | None = None
    status: int | None = None
    case: Annotated[str, Meta(description="Why: the case of the response.")] = ""
    violations: Annotated[list[str], Meta(description="Clauses that the request breaks.")] = []
    fault: Annotated[bool, Meta(description="Whether a fault rule applied.")] = False
    task_id: str = ""


class CallsAnswer(Answer, omit_defaults=True, kw_only=True):
    """One call with its explanation, or a list of calls."""

    calls: list[CallLine] = []
    before: Annotated[int | None, Meta(description="Continues the list.")] = None
    call: CallLine | None = None
    handler: Annotated[str, Meta(description="Which handler refused the call.")] = ""
    broken: Annotated[list[BrokenClause], Meta(description="The clauses that it breaks.")] = []
    fault: Annotated[str, Meta(description="The fault rule that applied.")] = ""
    near_rules: Annotated[list[RuleCase], Meta(description="Fault rules that nearly applied.")] = []
    nearest_operation: Annotated[str, Meta(description="Operation that the call was likely meant for.")] = ""


class RuleLine(msgspec.Struct, omit_defaults=True):
    """A fault rule."""

    number: int
    rule: str
    source: str
    hits: int = 0


class FaultsAnswer(Answer, omit_defaults=True, kw_only=True):
    """The active rules and the scenario."""

    rules: list[RuleLine] = []
    scenario: str = ""
    phase: str = ""
    scenarios: Annotated[list[str], Meta(description="Names of the built-in scenarios.")] = []


class ClockAnswer(Answer, omit_defaults=True, kw_only=True):
    """The clock."""

    now: Annotated[int, Meta(description="Unix time in milliseconds.")] = 0
    speed: Annotated[float, Meta(description="Seconds per real second; 0 if it stands still.")] = 0


class VerifyAnswer(Answer, omit_defaults=True, kw_only=True):
    """Whether the expected calls were made."""

    verified: bool = False
    matched: Annotated[int, Meta(description="Number of matching calls.")] = 0


class ClauseFinding(msgspec.Struct, omit_defaults=True):
    """What a check found."""

    check: str
    clause: str
    level: str = ""


class CheckAnswer(Answer, omit_defaults=True, kw_only=True):
    """The outcome of a check."""

    conforms: bool = False
    findings: list[ClauseFinding] = []
    not_checked: Annotated[int, Meta(description="Number of items that could not be checked.")] = 0
    requests: int = 0
    tasks: int = 0


class RunLine(msgspec.Struct, omit_defaults=True):
    """A run of a drill."""

    scenario: str
    outcome: str
    end: str
    calls: int
    verdicts: Annotated[list[str], Meta(description="Rules that the program broke.")] = []


class DrillAnswer(Answer, omit_defaults=True, kw_only=True):
    """The outcome of a drill."""

    passed: bool = False
    runs: list[RunLine] = []
    rules: Annotated[dict[str, str], Meta(description="The broken rules.")] = {}


class DeriveAnswer(Answer, omit_defaults=True, kw_only=True):
    """A contract."""

    output_path: str = ""
    codes: list[int] = []
    clauses: Annotated[int, Meta(description="Number of clauses.")] = 0


class Entry(msgspec.Struct, omit_defaults=True, frozen=True):
    """What is known about a code, a clause, an effect or an error."""

    kind: str
    name: str
    text: str
    docs: Annotated[str, Meta(description="Pass it to seedbed docs.")] = ""


class ExplainAnswer(Answer, omit_defaults=True, kw_only=True):
    """What a text means."""

    entries: list[Entry] = []
