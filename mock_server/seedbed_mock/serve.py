"""The subcommand ``seedbed serve``."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from cyclopts import Parameter, validators
from seedbed_schemas import Contract, commands, default_contract, job_api, local, shipped_contracts
from seedbed_schemas.commands import JsonFlag
from seedbed_schemas.contract import ContractError
from seedbed_schemas.openapi import example_of

from seedbed_mock.accounts import fingerprint
from seedbed_mock.app import build_app
from seedbed_mock.background import (
    BackgroundError,
    BackgroundServer,
    Detachment,
    ReadyServer,
    check_ready_file,
    detach,
)
from seedbed_mock.call_log import LogOptions
from seedbed_mock.cli import PROJECT_CONFIG, discard_output
from seedbed_mock.journal import JournalReader
from seedbed_mock.options import INTEGER, ServerOptions
from seedbed_mock.server import interception_of, serve_until_signal
from seedbed_mock.settings import CONTROL_ROOT, SettingsError
from seedbed_mock.sockets import (
    ListenError,
    exposed_addresses,
    given_sockets,
    listen,
    listening_at,
    local_url_of,
    ports_of,
)
from seedbed_mock.state import Service
from seedbed_mock.stores.store import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from filelock import BaseFileLock


def serve(
    *,
    options: ServerOptions | None = None,
    log: LogOptions | None = None,
    open_: Annotated[bool, Parameter(name="--open", negative="", show_default=False)] = False,
    contract: Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)] = (),
    uds: Path | None = None,
    ready_file: Path | None = None,
    daemon: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    workers: Annotated[int, INTEGER, Parameter(validator=validators.Number(gte=1, lte=64))] = 1,
    config: Path | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Run the mock server until Ctrl-C.

    Args:
        options: Options of the server.
        log: Options of the log.
        open_: Open the dashboard in a browser.
        contract: Contract of an additional model, written by seedbed derive. Repeatable.
        uds: Path of a Unix socket to listen on, instead of --host and --port.
        ready_file: File to write when the server accepts requests, with its URL, port and PID as JSON. It is removed
            when the server stops.
        daemon: Run in the background: return when the server is ready. Stop it with seedbed stop.
        workers: Number of processes that serve; more than one need --db redis://... to share their state.
        config: TOML file with these options, named without dashes; [[key]] tables give keys with their options. By
            default seedbed.toml, if the current folder has one.
        as_json: Print a JSON object when the server is ready, and another when it has stopped.
    """
    # Read before the command is called: see cli._read_config. Nobody asked for a file that is found.
    if config == Path(PROJECT_CONFIG):
        commands.note("serve", f"options from {config}")
    options = options or ServerOptions()
    try:
        contracts = {path: Contract.load(path) for path in contract}
        options = replace(options, contracts=tuple(contracts.values()))
        options.check()
        _check_workers(workers, options, is_daemon=daemon)
        if ready_file:
            check_ready_file(ready_file)
        with contextlib.ExitStack() as stack:
            code = _serve(
                stack,
                options,
                contracts=contracts,
                log=log or LogOptions(),
                opens_browser=open_,
                uds=uds,
                ready_file=ready_file,
                daemon=daemon,
                workers=workers,
            )
        if as_json and not daemon:
            commands.print_json({"event": "stopped"})
    except ListenError as error:
        server = BackgroundServer.of(None if uds else options.port, uds)
        advice = "Choose another --uds." if uds else "Choose another --port or --host; --port 0 picks a free port."
        if running := server.running():
            advice = (
                f"A server runs there in the background (PID {running.pid}); seedbed stop {server.option} stops it."
            )
        return commands.fail("serve", f"{error}.", fix=advice)
    except BackgroundError as error:
        return commands.fail("serve", str(error))
    except (SettingsError, ContractError, StoreError, StoreUnavailableError, OSError) as error:
        sentence = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) else str(error)
        return commands.fail("serve", sentence)
    return code


def _check_workers(workers: int, options: ServerOptions, *, is_daemon: bool) -> None:
    if workers > 1 and not options.has_fleet:
        raise SettingsError(
            "Several workers need a place for what they share; pass --db redis://HOST:6379/0, too, or omit --workers."
        )
    if workers > 1 and not hasattr(os, "fork"):
        raise SettingsError("This system cannot run several workers; omit --workers.")
    if workers > 1 and options.mcp:
        raise SettingsError("The sessions of agents belong to one process; omit --mcp or --workers.")
    if workers > 1 and is_daemon:
        raise SettingsError(
            "Several workers do not run in the background; omit --daemon, or let a supervisor start them."
        )


def _serve(
    stack: contextlib.ExitStack,
    options: ServerOptions,
    *,
    contracts: dict[Path, Contract],
    log: LogOptions,
    opens_browser: bool,
    uds: Path | None,
    ready_file: Path | None,
    daemon: bool,
    workers: int,
) -> int:
    """Serve until a signal, and leave what is to be closed then to a stack; the arguments are those of ``serve()``."""
    interception = interception_of(options, lambda sentence: commands.note("serve", sentence))
    certificate = (interception.certificate if interception else None) or options.tls_cert
    given = given_sockets(os.environ)
    detachment = detach() if daemon else None
    if uds and not given:
        listeners = [stack.enter_context(listening_at(uds))]
    else:
        listeners = [stack.enter_context(each) for each in given or (listen(options.host, options.port),)]
    ready = ReadyServer(
        url=local_url_of(listeners),
        port=next(iter(ports_of(listeners)), None),
        pid=os.getpid(),
        uds=str(uds.absolute()) if uds and not given else None,
        ca=str(Path(certificate).absolute()) if certificate else None,
    )
    place = _Place(ready, ready_file, detachment)
    stack.enter_context(place)
    exposed = exposed_addresses(listeners)

    def work(announce: Callable[[str], None], watch: Callable[[], None] = lambda: None) -> None:
        app = build_app(options)
        service: Service = app.state.service

        async def on_ready() -> None:
            accounts = service.spaces.default.accounts.values()
            balances = [await service.store.balance(each, service.now()) for each in accounts]
            watch()
            credits_ = _enough_for(balances, service)
            event = _event(place.server, exposed, options, balances)
            announce(_announcement(event, lambda: _banner(place, exposed, options, contracts, credits_)))
            # Not opened before: a server in the background leaves the terminal with its announcement.
            if call_log := log.open(JournalReader(service.own_journal), sys.stderr):
                logs.callback(call_log.close)
                call_log.start()

        with contextlib.ExitStack() as logs:
            serve_until_signal(app, listeners, on_ready, interception)

    def announce(banner: str) -> None:
        place.announce(banner)
        if opens_browser:
            # In a thread: a browser may take seconds to start. Imported late, since few servers open one.
            import webbrowser

            threading.Thread(target=webbrowser.open, args=(f"{ready.url}{CONTROL_ROOT}/",), daemon=True).start()

    if workers == 1:
        work(announce)
        return 0
    from seedbed_mock.workers import Workers  # most servers are one process

    return Workers(workers, lambda worker: _status_of(lambda: work(worker.say_ready, worker.watch)), announce).run()


def _status_of(work: Callable[[], None]) -> int:
    """Do the work of a worker and return its status; what prevents it is printed."""
    try:
        work()
    except (SettingsError, StoreError, StoreUnavailableError, OSError) as error:
        return commands.fail("serve", str(error))
    return 0


class _Place:
    """Where other programs find a server: on the terminal, in its ready file, and in the state of the background.

    Args:
        server: The server.
        ready_file: Path of its ready file, if any.
        detachment: Its process, if it runs in the background.
    """

    def __init__(self, server: ReadyServer, ready_file: Path | None, detachment: Detachment | None) -> None:
        uds = Path(server.uds) if server.uds else None
        self.background = BackgroundServer.of(server.port, uds) if detachment else None
        self.server = replace(server, log=str(self.background.log)) if self.background else server
        self._files = [path for path in (ready_file, self.background and self.background.file) if path]
        self._detachment = detachment
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> Self:
        self._lock = self.background.hold() if self.background else None
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._files:
            self.server.remove(path)
        if self._lock:
            self._lock.release()

    def how_to_stop(self) -> str:
        """Return a sentence for the banner."""
        if not self.background:
            return "Press Ctrl-C to stop."
        return (
            f"It runs in the background (PID {self.server.pid}), and its log is {self.background.log}.\n"
            f"To stop it: seedbed stop {self.background.option}"
        )

    def announce(self, banner: str) -> None:
        """Tell the user and other programs that the server accepts requests."""
        for path in self._files:
            try:
                self.server.save(path)
            except OSError as error:
                commands.warn("serve", f"cannot write {path}: {error.strerror}")
        try:
            if commands.is_json():
                commands.write_output(banner)
            else:
                print(banner, flush=True)
        except OSError as error:
            # The server is ready all the same.
            discard_output()
            commands.warn("serve", f"cannot print to standard output: {error.strerror}")
            print(banner, file=sys.stderr)
        if self._detachment and self.background:
            self._detachment.leave(self.background.log)


def _event(
    ready: ReadyServer, exposed: list[str], options: ServerOptions, balances: list[Decimal]
) -> dict[str, object]:
    """Return what a program needs to know of a server that is ready, without its keys."""
    accounts = [
        {"account": fingerprint(each.key), "credits": float(balance)}
        for each, balance in zip(options.accounts, balances, strict=True)
    ]
    return {"event": "ready", **asdict(ready), "accounts": accounts, "exposed": exposed}


def _announcement(event: dict[str, object], banner: Callable[[], str]) -> str:
    return commands.json_text(event) if commands.is_json() else banner()


def _replaced(contracts: dict[Path, Contract]) -> str:
    """Return a line for each contract file that replaces a built-in contract."""
    built_in = {contract.model for contract in shipped_contracts()}
    replacing = [(path, contract.model) for path, contract in contracts.items() if contract.model in built_in]
    return "".join(f"The contract {path} replaces the built-in one of {model}.\n" for path, model in replacing)


def _banner(
    place: _Place, exposed: list[str], options: ServerOptions, contracts: dict[Path, Contract], credits_: str
) -> str:
    """Return what is printed when the server is ready: its URL, its keys and requests to start with."""
    operation, shared, key, url = default_contract().operation, job_api(), options.accounts[0].key, place.server.url
    uds = f" --unix-socket {shlex.quote(place.server.uds)}" if place.server.uds else ""
    create = shlex.quote(f"{url}{operation.path}")
    auth = f"-H {shlex.quote(f'{operation.header}: {operation.scheme} {key}')}"
    body = shlex.quote(json.dumps(example_of(default_contract().part("request"))))
    server = "" if url == local.BASE_URL else f" --url {shlex.quote(url)}"
    with_key = "" if key == local.KEY else f" --key {shlex.quote(key)}"
    record = shlex.quote(f"{url}{shared.record_info.path}?{shared.record_info.query}=TASK_ID")
    generate = f"""
Create a task, wait for it and save the image, from another terminal:
  seedbed generate "A hill at dawn" -o hill.jpg{server}{with_key}
"""
    if options.has_tls and not options.tls_files:
        generate += f"""\
Let programs of a shell that call {shared.server} reach it:
  eval "$(seedbed env{server}{"".join(f" --intercept {shlex.quote(each)}" for each in options.intercepted_hosts)})"
"""
    return f"""\
Seedbed is ready on {f"{place.server.uds}, as {url}" if uds else url}
{_exposure(exposed, options)}{_replaced(contracts)}
Key: {", ".join(f"{each.key} ({fingerprint(each.key)})" for each in options.accounts)}
{credits_}

Create a task:
  curl -s{uds} {create} {auth} -H 'Content-Type: application/json' -d {body}
Get its record:
  curl -s{uds} {record} {auth}{"" if uds else generate.rstrip()}

{place.how_to_stop()}"""


def _exposure(exposed: list[str], options: ServerOptions) -> str:
    """Return a warning about a server that other machines can call, empty for any other."""
    if not exposed:
        return ""
    control = "needs the control token" if options.control_token else "takes callers on this machine only"
    return (
        f"Warning: other machines can call this server, since it listens on {', '.join(exposed)}. The control API "
        f"{control}.\n"
    )


def _enough_for(balances: list[Decimal], service: Service) -> str:
    """Return a line with the balances of all keys, in their order, and what a task costs."""
    price = service.catalogue.shipped.profile.credits
    shown = ", ".join(f"{each.normalize():f}" for each in balances)
    if len(balances) > 1 or not price:
        return f"Credits: {shown}"
    number = int(balances[0] // price)
    return f"Credits: {shown}, enough for {number} task{'' if number == 1 else 's'} at {price} each"
