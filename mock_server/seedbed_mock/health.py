"""The subcommands ``seedbed health``, ``wait`` and ``stop``: whether a server is ready, and the end of one."""

from __future__ import annotations

import http.client
import os
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar
from urllib.parse import urlsplit

from cyclopts import Parameter, validators
from seedbed_schemas import commands, default_contract, local
from seedbed_schemas.commands import ExitCode, JsonFlag
from seedbed_schemas.validation import for_display

from seedbed_mock.background import BackgroundError, BackgroundServer, ReadyServer, background_servers, stop_server
from seedbed_mock.control.client import open_connection
from seedbed_mock.settings import CONTROL_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    _Result = TypeVar("_Result")


_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5

_Seconds = Annotated[float, Parameter(validator=validators.Number(gt=0, lte=86_400))]
_Path = Annotated[Path | None, Parameter(show_default=False)]


class _NotReadyError(Exception):
    """The server is not ready; the message says why, without a full stop."""


class _InvalidTargetError(Exception):
    """No server can be asked as the options say; the message is one sentence."""


@Parameter(name="*")
@dataclass(frozen=True)
class ServerPlace:
    """Where a server is, beside its URL.

    Attributes:
        uds: Unix socket of the server.
        ca: PEM file with the certificate of its CA, for https://.
        ready_file: Ready file of the server, instead of a URL; "seedbed wait" also waits until it exists.
    """

    uds: _Path = None
    ca: _Path = None
    ready_file: _Path = None


_UNNAMED: Final = ServerPlace()


@dataclass(frozen=True)
class _Readiness:
    """A server that is ready.

    Attributes:
        name: How a message names it.
        url: Its base URL.
        version: Its version of Seedbed.
    """

    name: str
    url: str
    version: str

    def show(self, *, as_json: bool) -> None:
        """Print it."""
        if as_json:
            commands.print_json({"ready": True, "server": self.name, "url": self.url, "version": self.version})
        else:
            print(f"{self.name} is ready (Seedbed {self.version}).")


@dataclass(frozen=True)
class _Target:
    """A server that is asked whether it is ready.

    Attributes:
        url: Its base URL, ``None`` for that of the ready file.
        uds: Path of its Unix socket, ``None`` for TCP.
        ca: File with the certificate of its CA, ``None`` for those of the system.
        ready_file: Its ready file, ``None`` if the options say where it is.
    """

    url: str | None
    uds: Path | None
    ca: Path | None
    ready_file: Path | None

    @property
    def name(self) -> str:
        """How a message names it."""
        return str(self.ready_file) if self.url is None else f"{self.url} at {self.uds}" if self.uds else self.url

    @classmethod
    def of(cls, url: str | None, place: ServerPlace) -> _Target:
        """Return the server that the options name: by default that of the environment, or the local mock server.

        Raises:
            _InvalidTargetError: The options contradict each other, or the URL is invalid or that of the paid service.
        """
        uds, ca, ready_file = place.uds, place.ca, place.ready_file
        if ready_file and (url or uds):
            raise _InvalidTargetError("--ready-file says where the server is; omit the URL and --uds.")
        if ca and not ca.is_file():
            raise _InvalidTargetError(f"There is no file {ca}; name one with the certificate of the CA.")
        if ready_file:
            return cls(None, None, ca, ready_file)
        local_url = "http://localhost" if uds else os.environ.get(local.BASE_URL_VARIABLE) or local.BASE_URL
        url = (url or local_url).rstrip("/")
        try:
            parts = urlsplit(url)
            is_valid = parts.scheme in {"http", "https"} and (parts.port is None or parts.port)
            host = parts.hostname if is_valid else None
        except ValueError:
            host = None
        if not host:
            raise _InvalidTargetError(f"{url} is not the URL of a server; use one such as {local.BASE_URL}.")
        if host == urlsplit(default_contract().operation.server).hostname:
            raise _InvalidTargetError(f"{url} is the paid service; name the URL of a mock server.")
        return cls(url, uds, ca, None)

    def ask(self, seconds: float) -> _Readiness:
        """Return that the server is ready.

        Raises:
            _NotReadyError: It is not.
        """
        target = self
        if self.ready_file:
            try:
                ready = ReadyServer.load(self.ready_file)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "it is not a ready file"
                raise _NotReadyError(f"cannot read {self.ready_file} ({reason})") from error
            ca = self.ca or (Path(ready.ca) if ready.ca else None)
            target = replace(self, url=ready.url, uds=Path(ready.uds) if ready.uds else None, ca=ca)
        return _Readiness(target.name, target.url or "", _within(seconds, lambda: target.version(seconds)))

    def version(self, seconds: float) -> str:
        """Return the version of Seedbed that the server names in its response, whatever the response is."""
        url = self.url or ""
        connection = open_connection(url, seconds, self.uds, self.ca)
        try:
            connection.request("GET", f"{urlsplit(url).path}{CONTROL_ROOT}/health")
            version = connection.getresponse().getheader(local.MARK_HEADER)
        finally:
            connection.close()
        if version is None:
            raise _NotReadyError(f"{url} is not a mock server; its response has no header {local.MARK_HEADER}")
        return for_display(version)


def _within(seconds: float, function: Callable[[], _Result]) -> _Result:
    """Return the result of a function that nothing can interrupt, such as looking up a name or a slow response.

    Raises:
        _NotReadyError: The function raises an error of the connection, or does not end in time.
    """
    results: list[_Result | Exception] = []

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run, name="seedbed health", daemon=True)
    thread.start()
    thread.join(seconds)
    # The connection has the same timeout, and either can end first.
    if not results or isinstance(results[0], TimeoutError):
        raise _NotReadyError(f"no response within {seconds:.3g} seconds")
    result = results[0]
    if isinstance(result, (OSError, http.client.HTTPException, UnicodeError)):
        reason = getattr(result, "verify_message", None) or getattr(result, "strerror", None) or str(result)
        shown = for_display(" ".join(str(reason or type(result).__name__).split()))
        raise _NotReadyError(f"cannot connect ({shown})") from result
    if isinstance(result, Exception):
        raise result
    return result


def health(
    url: str | None = None,
    /,
    *,
    place: ServerPlace = _UNNAMED,
    timeout: _Seconds = 5,
    as_json: JsonFlag = False,
) -> int:
    """Ask a server once whether it is ready.

    Args:
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        place: Where the server is, beside its URL.
        timeout: Seconds to wait for the response.
        as_json: Print a JSON object.
    """
    try:
        target = _Target.of(url, place)
    except _InvalidTargetError as error:
        return commands.fail("health", str(error))
    try:
        target.ask(timeout).show(as_json=as_json)
    except _NotReadyError as error:
        return _report("health", f"the server is not ready: {error}", target, error)
    return 0


def wait(
    url: str | None = None,
    /,
    *,
    place: ServerPlace = _UNNAMED,
    timeout: _Seconds = 30,
    as_json: JsonFlag = False,
) -> int:
    """Wait until a server is ready.

    Args:
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        place: Where the server is, beside its URL.
        timeout: Seconds to wait at most.
        as_json: Print a JSON object.
    """
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    try:
        target = _Target.of(url, place)
    except _InvalidTargetError as error:
        return commands.fail("wait", str(error))
    while True:
        try:
            target.ask(max(deadline - time.monotonic(), _FIRST_PAUSE)).show(as_json=as_json)
        except _NotReadyError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                return _report("wait", f"{target.name} is not ready after {timeout:g} s: {error}", target, error)
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            return 0


def _report(command: str, sentence: str, target: _Target, error: _NotReadyError) -> int:
    """Print that a server is not ready, and return the exit code."""
    if commands.is_json():
        commands.print_json({"ready": False, "server": target.name, "reason": str(error)})
    return commands.fail(command, sentence, ExitCode.NEGATIVE)


def _servers_to_stop(port: int | None, uds: Path | None, *, all_servers: bool) -> list[BackgroundServer]:
    """Return the servers that the options of ``seedbed stop`` name.

    Raises:
        BackgroundError: There are none, or several of which none is named.
    """
    if port is not None or uds:
        return [BackgroundServer.of(port, uds)]
    servers = background_servers()
    if not servers:
        raise BackgroundError("no server runs in the background")
    if len(servers) > 1 and not all_servers:
        names = ", ".join(each.name for each in servers)
        raise BackgroundError(f"several servers run in the background ({names}); pass --port, --uds or --all")
    return servers


def stop(
    *,
    port: Annotated[int | None, Parameter(show_default=False, validator=validators.Number(gte=1, lte=65535))] = None,
    uds: _Path = None,
    all_servers: Annotated[bool, Parameter(name="--all", negative="", show_default=False)] = False,
    timeout: _Seconds = 10,
    as_json: JsonFlag = False,
) -> int:
    """Stop a server that seedbed serve --daemon has started.

    Args:
        port: Port of the server; not needed if only one runs.
        uds: Unix socket of the server.
        all_servers: Stop all servers that run in the background.
        timeout: Seconds that a server may take to end before it is killed.
        as_json: Print a JSON object.
    """
    if sum((port is not None, uds is not None, all_servers)) > 1:
        return commands.fail("stop", "pass one of --port, --uds and --all")
    code, ended = ExitCode.DONE, []
    try:
        for server in _servers_to_stop(port, uds, all_servers=all_servers):
            has_ended = stop_server(server, timeout)
            ended.append({"server": server.name, "killed": not has_ended})
            if not as_json:
                print(f"{'Stopped' if has_ended else 'Killed'} the server on {server.name}.")
    except BackgroundError as error:
        code = ExitCode.NEGATIVE
        commands.fail("stop", str(error), code)
    if as_json:
        commands.print_json({"stopped": ended})
    return code
