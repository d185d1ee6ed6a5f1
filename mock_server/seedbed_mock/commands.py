"""The subcommand ``seedbed serve``."""

from __future__ import annotations

import json
import shlex
import sys
from decimal import Decimal
from typing import Annotated

from cyclopts import Parameter, validators
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.example import example_of

from seedbed_mock.app import create_app
from seedbed_mock.server import ListenError, listen, serve_until_signal, url_of
from seedbed_mock.settings import HttpStatus, Rate, Settings, SettingsError

_DEFAULTS = Settings()


def serve(
    *,
    host: str = local.HOST,
    port: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535))] = local.PORT,
    key: Annotated[tuple[str, ...], Parameter(negative="")] = _DEFAULTS.keys,
    http_status: HttpStatus = _DEFAULTS.http_status,
    task_seconds: float = _DEFAULTS.task_seconds,
    credits: Decimal = _DEFAULTS.balance,  # noqa: A002 (the name of the flag)
    rate_limit: str = str(_DEFAULTS.rate),
    seed: int = _DEFAULTS.seed,
) -> int:
    """Play the whole service until Ctrl-C.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes any free one.
        key: API key to let in, an account of its own; may be repeated.
        http_status: envelope answers HTTP 200 with the code in the body, mirror the code as HTTP status too.
        task_seconds: How long a task takes, in seconds.
        credits: Balance of each account at the start.
        rate_limit: New tasks that an account may make, as N/SECONDS, or off.
        seed: Decides what is drawn at random, such as the colours of the images.
    """
    try:
        settings = Settings(
            keys=key,
            http_status=http_status,
            task_seconds=task_seconds,
            credits=credits,
            rate=Rate.parse(rate_limit),
            seed=seed,
        )
        listener = listen(host, port)
    except SettingsError as error:
        print(f"seedbed serve: {error}", file=sys.stderr)
        return 2
    except ListenError as error:
        print(f"seedbed serve: {error}. Choose another with --port or --host; --port 0 takes any.", file=sys.stderr)
        return 1
    url = url_of(listener)
    with listener:
        serve_until_signal(create_app(settings), listener, lambda: print(_welcome(url, settings), flush=True))
    return 0


def _welcome(url: str, settings: Settings) -> str:
    """Return the line that says that the server answers, and how to call it."""
    operation, shared, key = default_contract().operation, job_api(), settings.keys[0]
    auth = f"-H {shlex.quote(f'{operation.header}: {operation.scheme} {key}')}"
    body = shlex.quote(json.dumps(example_of(default_contract().part("request"))))
    elsewhere = "" if url == local.BASE_URL else f" --base-url {url}"
    with_key = "" if key == local.KEY else f" --key {shlex.quote(key)}"
    record = shlex.quote(f"{url}{shared.record_info.path}?{shared.record_info.query}=TASK_ID")
    return f"""\
Seedbed is ready on {url}

Key: {", ".join(settings.keys)}

Make a task:
  curl -s {url}{operation.path} {auth} -H 'Content-Type: application/json' -d {body}
See how it fares:
  curl -s {record} {auth}
Or all in one, from another terminal:
  seedbed generate "A hill at dawn" -o hill.jpg{elsewhere}{with_key}

Ctrl-C stops it."""
