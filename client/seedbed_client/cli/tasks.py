"""The subcommands ``seedbed task`` and ``seedbed credits``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import httpx2
from cyclopts import Parameter
from seedbed_schemas.validation import printable

from seedbed_client._client import SeedreamClient
from seedbed_client.cli.batch import FAILED, UNFINISHED, told
from seedbed_client.cli.service_options import INTERRUPTED, USAGE_ERROR, ServiceOptions, fail, say
from seedbed_client.errors import ConfigurationError, SeedreamError, WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_client.models import Task


def task(
    task_id: str,
    /,
    *,
    watch: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    timeout: float | None = None,
    service: ServiceOptions | None = None,
) -> int:
    """Show a task.

    Args:
        task_id: Its name.
        watch: Show it again whenever its state changes, until it has ended.
        as_json: Print its record as a line of JSON.
        timeout: Seconds after which to give up watching; by default 15 minutes.
        service: Which service to call.
    """

    def show(client: SeedreamClient) -> int:
        seen = client.iter_states(task_id, timeout=timeout) if watch else iter([client.get_task(task_id)])
        latest = None
        for latest in seen:
            say(json.dumps(latest.record) if as_json else _lines(latest))
        return FAILED if latest and latest.failed else 0

    return _call("task", service, show)


def credits_left(
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    service: ServiceOptions | None = None,
) -> int:
    """Show the balance of the account, in credits.

    Args:
        as_json: Print it as a line of JSON.
        service: Which service to call.
    """

    def show(client: SeedreamClient) -> int:
        balance = client.credits()
        say(json.dumps({"credits": balance}) if as_json else f"{balance:.15g}")
        return 0

    return _call("credits", service, show)


def _call(command: str, service: ServiceOptions | None, show: Callable[[SeedreamClient], int]) -> int:
    try:
        with (service or ServiceOptions()).client(SeedreamClient) as client:
            return show(client)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ConfigurationError as error:
        return fail(command, str(error), USAGE_ERROR)
    except WaitTimeoutError as error:
        return fail(command, str(error), UNFINISHED)
    except (SeedreamError, httpx2.HTTPError) as error:
        return fail(command, told(error))


def _lines(task: Task) -> str:
    """Return a task as lines of a name and a value each, those that are there."""
    values: dict[str, Any] = {
        "task": task.task_id,
        "model": task.model,
        "state": task.record.get("state", task.state),
        "failed with": f"{task.fail_code}: {task.fail_msg}" if task.failed else "",
        "made": task.create_time,
        "ended": task.complete_time,
        "took": task.cost_time,
        "credits": task.credits_consumed,
        "result": " ".join(task.result_urls),
    }
    return "\n".join(
        f"{name:12}{printable(str(value))}" for name, value in values.items() if value is not None and value != ""
    )
