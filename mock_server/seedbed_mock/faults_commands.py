"""The subcommands ``seedbed faults``: what goes wrong on a server that runs."""

from __future__ import annotations

import http.client
import sys
from typing import Annotated, Any

from cyclopts import Parameter
from seedbed_schemas import local

from seedbed_mock.asking import ControlError, ask

_Url = Annotated[str, Parameter(name="--url")]
_Token = Annotated[str, Parameter(name="--token", show_default=False)]
_Space = Annotated[str, Parameter(name="--space", show_default=False)]

_COLUMNS = {"number": "No.", "rule": "Rule", "door": "By", "space": "Space", "on": "On", "seen": "Seen", "hits": "Hits"}
_REFUSED = (http.client.UNPROCESSABLE_ENTITY, http.client.CONFLICT)


def list_faults(*, url: _Url = local.BASE_URL, token: _Token = "", space: _Space = "") -> int:
    """List the rules in force, in the order in which a call is held against them.

    Args:
        url: Base URL of the server.
        token: Its control token.
        space: Show the rules of this space alone.
    """
    return _asked(url, token, "GET", query={"space": space} if space else None)


def add(*rules: str, url: _Url = local.BASE_URL, token: _Token = "", space: _Space = "") -> int:
    """Put rules in force, after those that are, and list all.

    Args:
        rules: Rules such as '429; p=0.2', each in quotes.
        url: Base URL of the server.
        token: Its control token.
        space: For the calls of this space alone.
    """
    return _asked(url, token, "POST", {"rules": rules, "space": space or None})


def clear(number: int | None = None, /, *, url: _Url = local.BASE_URL, token: _Token = "", space: _Space = "") -> int:
    """Take rules out of force that were added, and list what is left.

    Args:
        number: Of one rule; all where none is given.
        url: Base URL of the server.
        token: Its control token.
        space: The rules of this space alone.
    """
    query = {"number": number, "space": space or None}
    return _asked(url, token, "DELETE", query={name: value for name, value in query.items() if value is not None})


def scenarios() -> int:
    """List the scenarios that are shipped, for seedbed serve --scenario NAME."""
    from seedbed_mock.faults.scenarios import load_scenario, scenario_path, shipped_scenarios  # noqa: PLC0415

    width = max(map(len, shipped_scenarios()))
    for name in shipped_scenarios():
        print(f"{name:<{width}}  {load_scenario(scenario_path(name)).description}")
    return 0


def _asked(url: str, token: str, method: str, body: object = None, query: dict[str, Any] | None = None) -> int:
    try:
        answer = ask(url, token, method, "faults", body, query)
    except ControlError as error:
        return _refuse(str(error), 2 if error.status in _REFUSED else 1)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return _refuse(f"No Seedbed answers on {url} ({reason}); start one with seedbed serve, or name it with --url.")
    except ValueError:
        return _refuse(f"What answers on {url} is no Seedbed; name one with --url, such as {local.BASE_URL}.")
    print(_told(answer))
    return 0


def _refuse(sentence: str, code: int = 1) -> int:
    print(f"seedbed faults: {sentence}", file=sys.stderr)
    return code


def _told(answer: dict[str, Any]) -> str:
    lines = _table(answer["faults"]) if answer["faults"] else ["No rule is in force."]
    if scenario := answer["scenario"]:
        phase = f"in the phase {scenario['phase']}" if scenario["phase"] else "over"
        lines.insert(0, f"The scenario {scenario['name']} is {phase}. {scenario['problem'] or ''}".rstrip())
    return "\n".join(lines)


def _table(faults: list[dict[str, Any]]) -> list[str]:
    rows = [list(_COLUMNS.values()), *([_cell(fault[name]) for name in _COLUMNS] for fault in faults)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "all" if value is None else str(value)
