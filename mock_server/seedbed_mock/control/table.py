"""The table of the control API: which method and path leads to which operation, and what goes in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seedbed_mock.addresses import CONTROL_ROOT
from seedbed_mock.control import shapes
from seedbed_mock.control.operations import Control

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from msgspec import Struct

ROOT = CONTROL_ROOT
"""Before each of the paths."""

DOCUMENTATION = "/openapi.json"
"""Path below the root of its OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the control API.

    Attributes:
        method: HTTP method.
        path: Path below the root, with ``{names}``.
        run: What it does; its docstring is its documentation.
        answer: What it gives back.
        query: What may stand in its query.
        body: What it is told in its body.
    """

    method: str
    path: str
    run: Callable[[Control, Mapping[str, str], Any, Any], Awaitable[Struct]]
    answer: type[Struct]
    query: type[Struct] = shapes.Nothing
    body: type[Struct] = shapes.Nothing


OPERATIONS = (
    Operation("GET", "/health", Control.health, shapes.Health),
    Operation("GET", "/clock", Control.clock, shapes.ClockShown),
    Operation("POST", "/clock", Control.turn_clock, shapes.ClockShown, body=shapes.Turn),
    Operation("GET", "/journal", Control.journal, shapes.Journalled, query=shapes.JournalQuery),
    Operation("GET", "/tasks", Control.tasks, shapes.Tasks, query=shapes.TaskQuery),
    Operation("GET", "/tasks/{task_id}", Control.task, shapes.TaskShown),
    Operation("POST", "/tasks/{task_id}/finish", Control.finish, shapes.TaskShown),
    Operation("POST", "/tasks/{task_id}/fail", Control.fail, shapes.TaskShown, body=shapes.Fail),
    Operation("GET", "/accounts", Control.accounts, shapes.Accounts, query=shapes.InSpace),
    Operation("GET", "/accounts/{account}", Control.account, shapes.AccountShown, query=shapes.InSpace),
    Operation(
        "POST",
        "/accounts/{account}/top-up",
        Control.top_up,
        shapes.AccountShown,
        query=shapes.InSpace,
        body=shapes.TopUp,
    ),
    Operation("POST", "/accounts/{account}/reset", Control.reset_account, shapes.AccountShown, query=shapes.InSpace),
    Operation("GET", "/callbacks", Control.callbacks, shapes.Callbacks, query=shapes.CallbackQuery),
    Operation("POST", "/callbacks/{task_id}/redeliver", Control.redeliver, shapes.CallbackShown),
    Operation("GET", "/faults", Control.faults, shapes.Faults, query=shapes.InSpace),
    Operation("POST", "/faults", Control.add_faults, shapes.Faults, body=shapes.NewFaults),
    Operation("DELETE", "/faults", Control.clear_faults, shapes.Faults, query=shapes.FaultQuery),
    Operation("POST", "/reset", Control.reset, shapes.Done, body=shapes.Reset),
    Operation("POST", "/verify", Control.verify, shapes.Verdict, body=shapes.Verification),
)
"""All of them."""
