"""The subcommands ``seedbed run`` and ``seedbed env``: programs that reach the mock server unchanged."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final, Self
from urllib.parse import urlsplit

from cyclopts import Parameter, validators
from seedbed_schemas import Contract, commands, local
from seedbed_schemas.commands import JsonFlag
from seedbed_schemas.contract import ContractError
from seedbed_schemas.validation import for_display

from seedbed_mock.accounts import fingerprint
from seedbed_mock.drill.program import FOLDER_VARIABLE, PipeTail
from seedbed_mock.faults.rules import RuleError
from seedbed_mock.interception.environment import EnvironmentFormat, environment_for, write_bundle
from seedbed_mock.observation import ControlRun, ProgramExit, RuleFinding, control_of_test, observe, patience_of
from seedbed_mock.options import RunOptions
from seedbed_mock.server import start_server
from seedbed_mock.settings import Egress, SettingsError, base_url, parse_public_url, state_folder
from seedbed_mock.sockets import ListenError
from seedbed_mock.stores.store import StoreError
from seedbed_mock.verdicts import ProgramVerdict, verdicts_on

if TYPE_CHECKING:
    from types import FrameType

    from seedbed_mock import MockServer
    from seedbed_mock.interception.setup import Reporter


_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
"""As in shells."""

_GRACE_SECONDS: Final = 10.0
"""How long the program may take to end after SIGTERM or SIGHUP."""

_LEFTOVER_SECONDS: Final = 2.0
"""How long processes that the program left behind may take to end."""

_POLL_SECONDS = 0.02
_PAGE = 1000
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGBREAK")
    if hasattr(signal, name)
)
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_FROM_TERMINAL = tuple(getattr(signal, name) for name in ("SIGINT", "SIGQUIT", "SIGBREAK") if hasattr(signal, name))
_ADOPT_ORPHANS = 36
"""PR_SET_CHILD_SUBREAPER of Linux."""


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class VerdictOptions:
    """Faults of a run, and what its verdicts are measured by.

    Attributes:
        fault: Fault rule that is active from the start, such as "wire.reset; op=createTask; nth=1". The verdicts of
            seedbed drill follow the run. Repeatable.
        calm: What the program does when nothing goes wrong, as seedbed drill prints it, such as images=1,fetches.
        deadline: Seconds after which the program is stopped; by default it never is.
    """

    fault: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()
    calm: Annotated[str | None, Parameter(show_default=False)] = None
    deadline: Annotated[float | None, Parameter(validator=validators.Number(gt=0, lte=86_400))] = None

    @property
    def is_wanted(self) -> bool:
        """Whether there are verdicts."""
        return bool(self.fault) or self.calm is not None

    def apply(self, server: MockServer) -> None:
        """Add the fault rules to a server.

        Raises:
            SettingsError: One is invalid, or the text of the calm run is.
        """
        if self.calm is not None:
            ControlRun.parse(self.calm)
        faults = server._service.faults
        try:
            faults.add([faults.parse(text) for text in self.fault], "control")
        except RuleError as error:
            raise SettingsError(f"Invalid --fault: {error}.") from error

    def variables(self, stack: ExitStack) -> dict[str, str]:
        """Return what a drill adds to the environment of a program: an empty folder, removed with the stack."""
        if not self.is_wanted:
            return {}
        return {FOLDER_VARIABLE: stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True))}

    def failed(
        self, server: MockServer, options: RunOptions, ended: ProgramExit, begun: int
    ) -> Mapping[str, RuleFinding] | None:
        """Return the verdicts against the program by the names of their rules; ``None`` if none are wanted.

        Args:
            server: The server that the program has called.
            options: Its options.
            ended: How the program ended.
            begun: When it began, in Unix milliseconds of the server's clock.
        """
        if not self.is_wanted:
            return None
        service, patience = server._service, patience_of(options)
        until = service.now()
        if ended.code is None and self.deadline:  # not now: it may have taken seconds to end
            until = begun + round(self.deadline * 1000 * (service.clock.speed or 1))
        seen = server._app.run(lambda: observe(service, ended, begun, until, patience=patience))
        control = control_of_test(seen, 0) if self.calm is None else ControlRun.parse(self.calm)
        return ProgramVerdict(verdicts_on(seen, control)).failed


def run(
    *command: str,
    options: RunOptions | None = None,
    verdict: VerdictOptions | None = None,
    contract: Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)] = (),
    config: Path | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Run a program whose calls to the paid service reach a mock server.

    Args:
        command: The program and its arguments, after two dashes.
        options: Options of the server.
        verdict: Faults, and how the program is judged.
        contract: Contract of an additional model, written by seedbed derive. Repeatable.
        config: TOML file with these options, named without dashes; [[key]] tables give keys with their options.
        as_json: Print a JSON object when the program starts, for each remark, and when the program has ended. What the
            program prints goes to standard error then.
    """
    del config  # read before the command is called: see cli._read_config
    if not command:
        return commands.fail("run", "name a program after two dashes, such as seedbed run -- python app.py")
    if shutil.which(command[0]) is None:
        is_there = Path(command[0]).exists() and os.sep in command[0]
        text = f"{for_display(command[0])} {'is not executable' if is_there else 'was not found'}"
        return commands.fail("run", text, _NOT_EXECUTABLE if is_there else _NOT_FOUND)
    from seedbed_mock.interception.setup import InterceptionSession  # cryptography takes time to load

    options, verdict = options or RunOptions(), verdict or VerdictOptions()
    with ExitStack() as stack:
        program = stack.enter_context(_Program())
        try:
            options = replace(options, contracts=tuple(Contract.load(path) for path in contract))
            options.check()
            if options.tls_files:
                return commands.fail("run", "a run makes a certificate of its own; omit --tls-cert and --tls-key")
            session = stack.enter_context(
                InterceptionSession(options.patched_contracts, options.intercepted_hosts, options.egress, write=_say)
            )
            server = stack.enter_context(start_server(options, session.interception))
            verdict.apply(server)
        except ListenError as error:
            advice = "Choose another --port or --host."
            return commands.fail("run", f"{error}.", fix=advice)
        except (SettingsError, ContractError, StoreError, OSError) as error:
            sentence = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) else str(error)
            return commands.fail("run", sentence)
        url = server.url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//127.0.0.1:")
        _announce(sorted(map(str, session.interception.rules.intercepted)), url, server.key)
        # With --db, there may be tasks of earlier runs.
        earlier = _tasks(server)
        begun = server._service.now()
        status = program.run(command, session.environment(url) | verdict.variables(stack), verdict)
        summary = RunSummary(server, session.interception.reporter, _tasks(server) - earlier)
        summary.show(status, verdict.failed(server, options, program.ended, begun), as_json=as_json)
    return status


def _announce(hosts: Sequence[str], url: str, key: str) -> None:
    if commands.is_json():
        commands.print_json({"event": "started", "url": url, "hosts": hosts, "account": fingerprint(key)})
        return
    names = ", ".join(f"https://{host}" for host in hosts)
    _say(f"{names} is the mock server on {url}, whose key is {key}.")


def _say(sentence: str) -> None:
    if commands.is_json():
        commands.print_json({"event": "note", "text": sentence})
    else:
        # Standard output is that of the program.
        commands.note("run", sentence)


def _tasks(server: MockServer) -> int:
    """Return the number of tasks that a server has."""
    page = server.control("GET", "tasks", limit=_PAGE)
    number = len(page["tasks"])
    while "before" in page:
        page = server.control("GET", "tasks", limit=_PAGE, before=page["before"])
        number += len(page["tasks"])
    return number


class RunSummary:
    """What came of a run.

    Args:
        server: The server that the program has called.
        reporter: What it says about connections.
        tasks: Number of tasks that the program has created.
    """

    def __init__(self, server: MockServer, reporter: Reporter, tasks: int) -> None:
        self._server, self._reporter, self._tasks = server, reporter, tasks
        # Some programs call the address in SEEDBED_BASE_URL, which is not intercepted.
        self._calls = max(reporter.calls, len(server.calls))

    def show(self, status: int, failed: Mapping[str, RuleFinding] | None, *, as_json: bool) -> None:
        """Print it.

        Args:
            status: Exit code of the program.
            failed: Verdicts against the program, ``None`` if none were wanted.
            as_json: Whether to print JSON.
        """
        if as_json:
            commands.print_json({"event": "ended", "exit_code": status, **self.to_json(failed)})
            return
        for line in self.lines(failed):
            _say(line)

    def to_json(self, failed: Mapping[str, RuleFinding] | None) -> dict[str, object]:
        """Return it as values that JSON has, with the verdicts against the program, ``None`` if none were wanted."""
        verdicts = [
            {"name": name, "reason": each.reason, "evidence": [one.describe() for one in each.evidence]}
            for name, each in (failed or {}).items()
        ]
        return {
            "calls": self._calls,
            "tasks": self._tasks,
            "bill": self._server.bill.to_json(),
            "passed": [*map(for_display, self._reporter.passed)],
            "hint": self._hint("that of the server"),
            "verdicts": None if failed is None else verdicts,
        }

    def lines(self, failed: Mapping[str, RuleFinding] | None) -> Iterator[str]:
        """Yield it as text: what was intercepted, what passed, what is likely wrong, and the verdicts."""
        calls, tasks = self._calls, self._tasks
        text = f"{calls} call{'' if calls == 1 else 's'}, {tasks} task{'' if tasks == 1 else 's'}."
        text += f" At the real service: {self._server.bill.describe()}."
        if passed := self._reporter.passed:
            text += f" Connections passed to {', '.join(map(for_display, passed))}."
        yield f"{text} {self._hint(self._server.key)}".rstrip()
        for name, finding in (failed or {}).items():
            yield f"{name}: {finding.reason}"
            yield from (f"  {each.describe()}" for each in finding.evidence)
        if failed is not None and not failed:
            yield "No verdict is against the program."

    def _hint(self, key: str) -> str:
        """Return what is likely wrong, in one sentence; empty if nothing is."""
        if not self._calls and not self._reporter.has_reported:
            return "No call arrived: the program made none, or takes no account of the proxy; see docs/interception.md."
        if any(each["code"] == http.client.UNAUTHORIZED for each in self._server.calls):
            return f"Calls with another key than {key} were refused; pass the key of the program with --key."
        return ""


class _Program:
    """The program of a run: it gets the signals of the terminal, and leaves no process behind.

    In a terminal, it shares the process group of this process, so that it can read from the terminal and Ctrl-C reaches
    it directly. Elsewhere, it has a group of its own, to which signals are passed on.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_in_terminal = False
        # Where there is no terminal, or none that this process may read from.
        with contextlib.suppress(OSError, AttributeError):
            self._is_in_terminal = os.tcgetpgrp(0) == os.getpgrp()
        self._is_ending = False
        self._handlers: dict[int, Any] = {}
        self.ended = ProgramExit(None)

    def __enter__(self) -> Self:
        """Take the signals of this process."""
        for number in _SIGNALS:
            # What is ignored, as under nohup, stays ignored, also by the program.
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        _adopt_orphans(wanted=False)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str], environment: Mapping[str, str], verdict: VerdictOptions) -> int:
        """Run a command and return its exit code, as a shell would.

        Args:
            command: The program and its arguments.
            environment: Its environment.
            verdict: Whether its end is judged, and after which time it is stopped.
        """
        _adopt_orphans(wanted=True)
        try:
            self._process = subprocess.Popen(  # noqa: S603 (the command of the user)
                command,
                executable=shutil.which(command[0]),
                env=environment,
                process_group=None if self._is_in_terminal or os.name != "posix" else 0,
                # The verdict that it crashed rests on what it prints.
                stderr=subprocess.PIPE if verdict.is_wanted else None,
                stdout=sys.stderr.fileno() if commands.is_json() else None,
            )
        except OSError as error:
            return commands.fail("run", f"cannot run {for_display(command[0])}: {error.strerror}", _NOT_EXECUTABLE)
        errors = PipeTail(self._process.stderr, sys.stderr.fileno()) if verdict.is_wanted else None
        is_stopped = False
        try:
            status = self._process.wait(verdict.deadline)
        except subprocess.TimeoutExpired:
            _say(f"it was stopped after {verdict.deadline:g} s.")
            is_stopped = True
            self._on_signal(signal.SIGTERM, None)
            status = self._process.wait()
        self._end_leftovers()
        self.ended = ProgramExit(None if is_stopped else status, errors.text() if errors else "")
        return 128 - status if status < 0 else status

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._process is None:
            raise SystemExit(128 + number)
        if self._is_in_terminal and number in _FROM_TERMINAL:
            return  # the terminal has sent it to the program, too
        if number in _ENDING and self._is_ending:
            self._send(_KILL)
            return
        self._send(number)
        if number in _ENDING:
            self._is_ending = True
            timer = threading.Timer(_GRACE_SECONDS, self._send, [_KILL])
            timer.daemon = True
            timer.start()

    def _send(self, number: int) -> None:
        """Send a signal to the program and, if they are in a group of their own, to the processes that it started."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(OSError):
            if self._is_in_terminal or os.name != "posix":
                self._process.send_signal(number)
            else:
                os.killpg(self._process.pid, number)

    def _end_leftovers(self) -> None:
        """End the processes that the program left behind in its process group."""
        if os.name != "posix" or self._process is None:
            return
        own = self._process.pid
        find = _adopted if self._is_in_terminal else lambda: [-own]
        for number in (signal.SIGTERM, _KILL):
            end = time.monotonic() + _LEFTOVER_SECONDS
            # The signal once, then only whether they are still there.
            found = _signal_all(find(), number)
            while found and time.monotonic() < end:
                # Those that this process adopted stay until their exit code is taken.
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(-1, os.WNOHANG)
                time.sleep(_POLL_SECONDS)
                found = _signal_all(find(), 0)


def _signal_all(processes: Iterable[int], number: int) -> bool:
    """Send a signal to processes, or to groups as negative numbers, and return whether there were any."""
    found = False
    for each in processes:
        with contextlib.suppress(OSError):
            os.kill(each, number)
            found = True
    return found


def _adopted() -> list[int]:
    """Return the processes of this process group that lost their parent and are children of this process now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # The name of the program, which comes before in brackets, may contain anything.
            _, parent, group, *_ = path.read_text().rpartition(")")[2].split()
            if int(parent) == os.getpid() and int(group) == os.getpgrp():
                found.append(int(path.parent.name))
    return found


def _adopt_orphans(*, wanted: bool) -> None:
    """Let processes whose parent ends become children of this process or not, where the system knows that."""
    if sys.platform == "linux":
        import ctypes  # here alone

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, int(wanted), 0, 0, 0)


def environment(
    *,
    url: Annotated[str | None, Parameter(name="--url")] = None,
    form: Annotated[EnvironmentFormat, Parameter(name="--format")] = "shell",
    intercept: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    egress: Egress = "allow",
    as_json: JsonFlag = False,
) -> int:
    """Print the environment in which programs reach a server that runs with --tls.

    Args:
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        form: "shell" for eval, "compose" for Docker Compose, "github" for GITHUB_ENV, or "json".
        intercept: Further host that the server stands in for. Repeatable.
        egress: What the server does with connections to other hosts.
        as_json: The same as --format json.
    """
    from seedbed_mock.interception.authority import user_authority  # cryptography takes time to load
    from seedbed_mock.interception.hosts import HTTP, HTTPS, HostRules

    if as_json and form not in {"shell", "json"}:
        return commands.fail("env", f"--json and --format {form} name two formats; pass one of them")
    url = os.environ.get(local.BASE_URL_VARIABLE) or local.BASE_URL if url is None else url
    try:
        server = urlsplit(parse_public_url(url))
        # Programs expect of a proxy that it speaks plain HTTP, which the server does on the same port.
        proxy = base_url(server.hostname or "", server.port or (HTTPS if server.scheme == "https" else HTTP))
        rules = HostRules.of((), intercept, egress)
        authority = user_authority(rules.names)
        bundle = write_bundle(state_folder(), authority.certificate, os.environ)
    except (SettingsError, OSError) as error:
        return commands.fail("env", str(error))
    changed = environment_for(rules, proxy, bundle, os.environ, is_local=form != "compose")
    if as_json:
        commands.print_json(dict(changed.variables), indent=2)
    else:
        print(changed.to_text(form))
    return 0
