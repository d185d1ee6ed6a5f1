"""The subcommand ``seedbed serve``."""

from __future__ import annotations

import json
import shlex
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from seedbed_schemas import Contract, default_contract, job_api, local, shipped_contracts
from seedbed_schemas.contract import ContractError
from seedbed_schemas.openapi import example_of

from seedbed_mock.accounts import fingerprint
from seedbed_mock.app import build_app
from seedbed_mock.call_log import LogOptions
from seedbed_mock.cli import discard_output
from seedbed_mock.journal import JournalReader
from seedbed_mock.options import ServerOptions
from seedbed_mock.server import ListenError, interception_of, listen, serve_until_signal, url_of
from seedbed_mock.settings import SettingsError
from seedbed_mock.state import Service
from seedbed_mock.stores.store import StoreError


def serve(
    *,
    options: ServerOptions | None = None,
    log: LogOptions | None = None,
    contract: Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)] = (),
    config: Path | None = None,  # noqa: ARG001 (read before the command is called: see cli._read_config)
) -> int:
    """Run the mock server until Ctrl-C.

    Args:
        options: Options of the server.
        log: Options of the log.
        contract: Contract of an additional model, written by seedbed derive. Repeatable.
        config: TOML file with these options, named without dashes; [[key]] tables give keys with their options.
    """
    options = options or ServerOptions()
    try:
        contracts = {path: Contract.load(path) for path in contract}
        options = replace(options, contracts=tuple(contracts.values()))
        options.check()
        interception = interception_of(options, lambda sentence: print(f"seedbed serve: {sentence}", file=sys.stderr))
        app = build_app(options)
        listener = listen(options.host, options.port)
    except ListenError as error:
        print(f"seedbed serve: {error}. Choose another --port or --host; --port 0 picks a free port.", file=sys.stderr)
        return 1
    except (SettingsError, ContractError, StoreError, OSError) as error:
        sentence = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) else str(error)
        print(f"seedbed serve: {sentence}", file=sys.stderr)
        return 2
    # The port may have been 0, so only the socket knows the URL. A client needs an address, not that of all addresses.
    url = url_of(listener).replace("//0.0.0.0:", "//127.0.0.1:")
    url = url.replace("//[::]:", "//127.0.0.1:" if socket.has_dualstack_ipv6() else "//[::1]:")
    with listener:
        banner = _banner(url, options, _replaced(contracts), _balances(app.state.service))
        service: Service = app.state.service
        call_log = (log or LogOptions()).open(JournalReader(service.spaces.journal), sys.stderr)

        def on_ready() -> None:
            _print_banner(banner)
            if call_log:
                call_log.start()

        serve_until_signal(app, listener, on_ready, interception)
        if call_log:
            call_log.close()
    return 0


def _print_banner(banner: str) -> None:
    try:
        print(banner, flush=True)
    except OSError as error:
        # The server is ready all the same.
        discard_output()
        print(f"seedbed serve: cannot print to standard output: {error.strerror}.", banner, sep="\n", file=sys.stderr)


def _replaced(contracts: dict[Path, Contract]) -> str:
    """Return a line for each contract file that replaces a built-in contract."""
    built_in = {contract.model for contract in shipped_contracts()}
    replacing = [(path, contract.model) for path, contract in contracts.items() if contract.model in built_in]
    return "".join(f"The contract {path} replaces the built-in one of {model}.\n" for path, model in replacing)


def _banner(url: str, options: ServerOptions, replaced: str, balances: str) -> str:
    """Return what is printed when the server is ready: its URL, its keys and requests to start with."""
    operation, shared, key = default_contract().operation, job_api(), options.accounts[0].key
    create = shlex.quote(f"{url}{operation.path}")
    auth = f"-H {shlex.quote(f'{operation.header}: {operation.scheme} {key}')}"
    body = shlex.quote(json.dumps(example_of(default_contract().part("request"))))
    server = "" if url == local.BASE_URL else f" --url {shlex.quote(url)}"
    with_key = "" if key == local.KEY else f" --key {shlex.quote(key)}"
    record = shlex.quote(f"{url}{shared.record_info.path}?{shared.record_info.query}=TASK_ID")
    return f"""\
Seedbed is ready on {url}
{replaced}
Key: {", ".join(f"{each.key} ({fingerprint(each.key)})" for each in options.accounts)}
{balances}

Create a task:
  curl -s {create} {auth} -H 'Content-Type: application/json' -d {body}
Get its record:
  curl -s {record} {auth}
Create a task, wait for it and save the image, from another terminal:
  seedbed generate "A hill at dawn" -o hill.jpg{server}{with_key}

Press Ctrl-C to stop."""


def _balances(service: Service) -> str:
    """Return a line with the balances of all keys, in their order, and what a task costs."""
    accounts, price = service.spaces.default.accounts.values(), service.catalogue.shipped.profile.credits
    balances = [service.store.balance(each, service.now()) for each in accounts]
    shown = ", ".join(f"{each.normalize():f}" for each in balances)
    if len(balances) > 1 or not price:
        return f"Credits: {shown}"
    number = int(balances[0] // price)
    return f"Credits: {shown}, enough for {number} task{'' if number == 1 else 's'} at {price} each"
