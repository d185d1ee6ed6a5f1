"""The subcommand ``seedbed serve``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from seedbed_schemas import Contract, default_contract, job_api, local
from seedbed_schemas.contract import ContractError
from seedbed_schemas.example import example_of

from seedbed_mock.app import create_app
from seedbed_mock.server import ListenError, listen, serve_until_signal, url_of
from seedbed_mock.settings import DEFAULTS, HttpStatus, Rate, Settings, SettingsError, Span, parse_credits


def serve(
    *,
    host: str = local.HOST,
    port: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535))] = local.PORT,
    key: Annotated[tuple[str, ...], Parameter(negative="", show_default=", ".join)] = DEFAULTS.keys,
    contract: Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)] = (),
    dialect: str = DEFAULTS.dialect,
    http_status: HttpStatus = DEFAULTS.http_status,
    task_seconds: str = str(DEFAULTS.span),
    credits: str = str(DEFAULTS.credits),  # noqa: A002 (the name of the flag)
    rate_limit: str = str(DEFAULTS.rate),
    seed: int = DEFAULTS.seed,
    result_dir: Path | None = DEFAULTS.result_dir,
) -> int:
    """Play the whole service until Ctrl-C.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes any free one.
        key: API key to let in, an account of its own; may be repeated.
        contract: Contract of a further model to play, a file that seedbed derive wrote; may be repeated.
        dialect: documented answers as the documentation has it, observed as the service is known to.
        http_status: envelope answers HTTP 200 with the code in the body, mirror the code as HTTP status too.
        task_seconds: How long a task takes, in seconds; LEAST..MOST draws from between, with the seed.
        credits: Balance of each account at the start.
        rate_limit: New tasks that an account may make, as N/SECONDS, or off.
        seed: Decides what is drawn at random, such as the colours of the images.
        result_dir: Folder of images of yours to give as results, cut to size, in place of drawn ones.
    """
    try:
        settings = Settings(
            keys=key,
            dialect=dialect,
            http_status=http_status,
            task_seconds=Span.parse(task_seconds),
            credits=parse_credits(credits),
            rate=Rate.parse(rate_limit),
            seed=seed,
            result_dir=result_dir,
        )
        app = create_app(settings, contracts=[Contract.load(path) for path in contract])
        listener = listen(host, port)
    except (SettingsError, ContractError, OSError) as error:
        return _refuse(error)
    url = url_of(listener)
    with listener:
        serve_until_signal(app, listener, lambda: print(_welcome(url, settings), flush=True))
    return 0


def _refuse(error: Exception) -> int:
    if isinstance(error, ListenError):
        print(f"seedbed serve: {error}. Choose another with --port or --host; --port 0 takes any.", file=sys.stderr)
        return 1
    sentence = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) else str(error)
    print(f"seedbed serve: {sentence}", file=sys.stderr)
    return 2


def _welcome(url: str, settings: Settings) -> str:
    """Return the line that says that the server answers, and how to call it."""
    operation, shared, key = default_contract().operation, job_api(), settings.keys[0]
    create = shlex.quote(f"{url}{operation.path}")
    auth = f"-H {shlex.quote(f'{operation.header}: {operation.scheme} {key}')}"
    body = shlex.quote(json.dumps(example_of(default_contract().part("request"))))
    elsewhere = "" if url == local.BASE_URL else f" --base-url {shlex.quote(url)}"
    with_key = "" if key == local.KEY else f" --key {shlex.quote(key)}"
    record = shlex.quote(f"{url}{shared.record_info.path}?{shared.record_info.query}=TASK_ID")
    return f"""\
Seedbed is ready on {url}

Key: {", ".join(settings.keys)}

Make a task:
  curl -s {create} {auth} -H 'Content-Type: application/json' -d {body}
See how it fares:
  curl -s {record} {auth}
Or all in one, from another terminal:
  seedbed generate "A hill at dawn" -o hill.jpg{elsewhere}{with_key}

Ctrl-C stops it."""
