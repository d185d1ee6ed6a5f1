"""The subcommands ``seedbed task`` and ``seedbed credits``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import httpx2
from cyclopts import Parameter
from seedbed_schemas.commands import ExitCode, JsonFlag, fail, print_json
from seedbed_schemas.contract import ContractError
from seedbed_schemas.validation import printable

from seedbed_client._client import SeedreamClient
from seedbed_client._polling import DEFAULT_SCHEDULE, PollingSchedule
from seedbed_client.cli.batch import code_of_read, describe
from seedbed_client.cli.service_options import ServiceOptions, print_line
from seedbed_client.errors import ConfigurationError, SeedreamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_client.models import Task


def task(
    task_id: str,
    /,
    *,
    watch: Annotated[bool, Parameter(negative="")] = False,
    as_json: JsonFlag = False,
    timeout: float | None = None,
    service: ServiceOptions | None = None,
) -> int:
    """Show a task.

    Args:
        task_id: ID of the task.
        watch: Show the task again each time its state changes, until it has succeeded or failed.
        as_json: Print the record of the task as a line of JSON.
        timeout: Seconds to watch the task; by default 15 minutes.
        service: The service to call.
    """

    def show(client: SeedreamClient) -> int:
        DEFAULT_SCHEDULE.limit(timeout)
        states = client.iter_states(task_id, timeout=timeout) if watch else iter([client.get_task(task_id)])
        latest = None
        for latest in states:
            if as_json:
                print_json(latest.record)
            else:
                print_line(_summary(latest))
        return ExitCode.NEGATIVE if latest and latest.failed else ExitCode.DONE

    return _call("task", service, show)


def credits_left(
    *,
    as_json: JsonFlag = False,
    service: ServiceOptions | None = None,
) -> int:
    """Show the balance of the account, in credits.

    Args:
        as_json: Print the balance as a line of JSON.
        service: The service to call.
    """

    def show(client: SeedreamClient) -> int:
        balance = client.credits()
        if as_json:
            print_json({"credits": balance})
        else:
            print_line(f"{balance:.15g}")
        return 0

    return _call("credits", service, show)


def _call(command: str, service: ServiceOptions | None, show: Callable[[SeedreamClient], int]) -> int:
    """Run a function with a client of the service, and return the exit code of the command."""
    try:
        # The task was created earlier, so an unknown ID is a mistake and not a matter of moments.
        polling = PollingSchedule(grace=0)
        with (service or ServiceOptions()).client(SeedreamClient, polling=polling) as client:
            return show(client)
    except (ConfigurationError, ContractError) as error:
        return fail(command, str(error))
    except (SeedreamError, httpx2.HTTPError, OSError) as error:
        return fail(command, describe(error), code_of_read(error))


def _summary(task: Task) -> str:
    """Return a line for each attribute of a task that has a value."""
    values: dict[str, Any] = {
        "task": task.task_id,
        "model": task.model,
        # The name that the service uses, for a state that this version does not know.
        "state": task.record.get("state", task.state),
        "failed with": f"{task.fail_code}: {task.fail_msg}" if task.failed else "",
        "created": task.create_time,
        "completed": task.complete_time,
        "took": task.cost_time,
        "credits": task.credits_consumed,
        "result": " ".join(task.result_urls),
    }
    return "\n".join(
        f"{name:12}{printable(_shown(value))}" for name, value in values.items() if value is not None and value != ""
    )


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return f"{value.total_seconds():g} s" if isinstance(value, timedelta) else str(value)
