"""The subcommand ``seedbed serve``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from seedbed_schemas import Contract, default_contract, job_api, local
from seedbed_schemas.contract import ContractError
from seedbed_schemas.openapi import example_of

from seedbed_mock.accounts import fingerprint
from seedbed_mock.app import assemble
from seedbed_mock.options import ServerOptions
from seedbed_mock.server import ListenError, listen, serve_until_signal, url_of
from seedbed_mock.settings import Settings, SettingsError
from seedbed_mock.stores.store import StoreError


def serve(
    *,
    flags: ServerOptions | None = None,
    contract: Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)] = (),
    config: Path | None = None,  # noqa: ARG001 (read before the command is called: see config_file)
) -> int:
    """Play the whole service until Ctrl-C.

    Args:
        flags: How to play.
        contract: Contract of a further model to play, a file that seedbed derive wrote; may be repeated.
        config: TOML file with any of these flags, without their dashes; [[key]] tables name keys and their options.
    """
    flags = flags or ServerOptions()
    try:
        app = assemble(flags, contracts=[Contract.load(path) for path in contract])
        listener = listen(flags.host, flags.port)
    except (SettingsError, ContractError, StoreError, OSError) as error:
        return _refuse(error)
    url = url_of(listener)
    with listener:
        serve_until_signal(app, listener, lambda: print(_welcome(url, app.state.service.settings), flush=True))
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
    operation, shared, key = default_contract().operation, job_api(), settings.accounts[0].key
    create = shlex.quote(f"{url}{operation.path}")
    auth = f"-H {shlex.quote(f'{operation.header}: {operation.scheme} {key}')}"
    body = shlex.quote(json.dumps(example_of(default_contract().part("request"))))
    elsewhere = "" if url == local.BASE_URL else f" --url {shlex.quote(url)}"
    with_key = "" if key == local.KEY else f" --key {shlex.quote(key)}"
    record = shlex.quote(f"{url}{shared.record_info.path}?{shared.record_info.query}=TASK_ID")
    return f"""\
Seedbed is ready on {url}

Key: {", ".join(f"{each.key} ({fingerprint(each.key)})" for each in settings.accounts)}

Make a task:
  curl -s {create} {auth} -H 'Content-Type: application/json' -d {body}
See how it fares:
  curl -s {record} {auth}
Or all in one, from another terminal:
  seedbed generate "A hill at dawn" -o hill.jpg{elsewhere}{with_key}

Ctrl-C stops it."""
