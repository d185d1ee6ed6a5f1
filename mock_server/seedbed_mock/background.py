"""What a running server leaves for other programs: its ready file, and the state of servers in the background.

A server in the background holds a lock while it runs. The system releases it when the process ends, however it ends, so
that a file with the PID of an earlier server is never taken for that of a running one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from seedbed_schemas import commands
from seedbed_schemas.commands import ExitCode

from seedbed_mock.settings import SettingsError, state_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from filelock import BaseFileLock


_START_SECONDS: Final = 60.0
_KILL_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.02
_LOOK_SECONDS: Final = 0.05
_READY: Final = b"R"


@dataclass(frozen=True, kw_only=True)
class ReadyServer:
    """A server that accepts requests, as a ready file describes it.

    Attributes:
        url: Base URL for programs on this machine.
        port: Its port, ``None`` with a Unix socket.
        pid: ID of its process.
        uds: Path of its Unix socket, if any.
        ca: Path of the certificate that clients must trust, ``None`` without TLS.
        log: Path of its log, ``None`` if it does not run in the background.
    """

    url: str
    port: int | None
    pid: int
    uds: str | None = None
    ca: str | None = None
    log: str | None = None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a ready file.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is not a ready file.
        """
        content = json.loads(path.read_bytes())
        is_ready_file = isinstance(content, dict) and content.keys() == cls.__dataclass_fields__.keys()
        if not is_ready_file or not isinstance(content["url"], str) or not isinstance(content["pid"], int):
            raise ValueError(f"{path} is not a ready file.")
        return cls(**content)

    def save(self, path: Path) -> None:
        """Write a ready file, whole or not at all.

        Raises:
            OSError: The file cannot be written.
        """
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f"{path.name}.", delete=False) as file:
            try:
                json.dump(asdict(self), file)
                file.flush()
                # mkstemp makes files for one user; a ready file has no secrets, and another user may wait for it.
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def remove(self, path: Path) -> None:
        """Remove the ready file of this server, unless another one has replaced it."""
        with contextlib.suppress(OSError, ValueError):
            if ReadyServer.load(path) == self:
                path.unlink()


def check_ready_file(path: Path) -> None:
    """Check that a ready file can be written, and remove the one of an earlier server.

    Raises:
        SettingsError: The path cannot be used, or is that of another file.
    """
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        problem = "is not writable" if folder.is_dir() else "does not exist"
        raise SettingsError(f"Cannot write the ready file {path}; its folder {problem}.")
    if not path.exists():
        return
    if not path.is_file():
        raise SettingsError(f"{path} exists and is not a file; name another path for the ready file.")
    try:
        ReadyServer.load(path)
        path.unlink()
    except OSError as error:
        raise SettingsError(f"Cannot write the ready file {path}: {error.strerror}.") from error
    except ValueError as error:
        raise SettingsError(f"{path} exists and is not a ready file of Seedbed; name another path.") from error


# Servers in the background


class BackgroundError(Exception):
    """A server in the background cannot be started or stopped; the message is one sentence."""


@dataclass(frozen=True)
class BackgroundServer:
    """The files of a server in the background, which are named after its port or its Unix socket.

    Attributes:
        name: How a message names it, such as ``port 8721``.
        option: The option of ``seedbed stop`` that names it.
        stem: Path of its files, without their suffix.
    """

    name: str
    option: str
    stem: Path

    @classmethod
    def of(cls, port: int | None, uds: Path | None) -> Self:
        """Return the server on a port or at a Unix socket."""
        folder = state_folder()
        if port is not None:
            return cls(f"port {port}", f"--port {port}", folder / f"server-{port}")
        path = os.fspath((uds or Path()).absolute())
        return cls(
            path, f"--uds {shlex.quote(path)}", folder / f"server-{hashlib.sha256(path.encode()).hexdigest()[:12]}"
        )

    @property
    def log(self) -> Path:
        """Path of its log."""
        return self.stem.with_suffix(".log")

    @property
    def file(self) -> Path:
        """Path of its ready file."""
        return self.stem.with_suffix(".json")

    def lock(self) -> BaseFileLock:
        """Return the lock that it holds while it runs."""
        from filelock import FileLock  # most commands start no server in the background

        return FileLock(self.stem.with_suffix(".lock"))

    def running(self) -> ReadyServer | None:
        """Return the server if it runs; files that an earlier one has left are removed."""
        from filelock import Timeout  # see above

        lock = self.lock()
        try:
            # Not at once: another command may be looking at the lock at the same moment.
            with lock.acquire(timeout=_LOOK_SECONDS, poll_interval=_LOOK_SECONDS / 5):
                self.file.unlink(missing_ok=True)
                return None
        except Timeout:
            with contextlib.suppress(OSError, ValueError):
                return ReadyServer.load(self.file)
            return None

    def hold(self) -> BaseFileLock:
        """Return the lock of this server, which this process holds until it is released.

        Raises:
            BackgroundError: The folder of the state cannot be used, or the server runs already.
        """
        from filelock import Timeout  # see above

        try:
            self.stem.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self.lock()
            lock.acquire(timeout=_KILL_SECONDS)
        except Timeout as error:  # which is an OSError as well
            raise BackgroundError(f"a server runs in the background on {self.name} already") from error
        except OSError as error:
            raise BackgroundError(f"cannot use the folder {self.stem.parent}: {error.strerror}") from error
        return lock


class Detachment:
    """The process of a server in the background, which leaves the terminal when the server is ready.

    Args:
        writing: Pipe to the process that waits for this one.
    """

    def __init__(self, writing: int) -> None:
        self._writing = writing

    def leave(self, log: Path) -> None:
        """Write to a log from now on, and let the command that started this process end."""
        try:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            # The server is ready all the same.
            commands.warn("serve", f"cannot write the log {log}: {error.strerror}")
            file = os.open(os.devnull, os.O_WRONLY)
        _flush()
        # By number: a stream is missing in a process that was started without it.
        for stream in (1, 2):
            os.dup2(file, stream)
        os.close(file)
        os.write(self._writing, _READY)
        os.close(self._writing)


def detach() -> Detachment:
    """Go on in a new process of the background; the one that called this ends with :class:`SystemExit`.

    It ends when the new process leaves the terminal, or with the exit code of the new process if that ends before.

    Raises:
        BackgroundError: This system has no such processes, or the new one does not leave the terminal in time.
    """
    if not hasattr(os, "fork"):
        raise BackgroundError("this system cannot run a server in the background; run it in a terminal of its own")
    _flush()
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        raise SystemExit(_wait_for_child(child, reading))
    # A session of its own, which the end of the terminal does not reach.
    os.setsid()
    os.close(reading)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Detachment(writing)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()


def _wait_for_child(child: int, reading: int) -> int:
    """Return 0 when the child says that it is ready, and otherwise the exit code with which it ends."""
    import select  # only to start a server in the background

    try:
        has_spoken = bool(select.select([reading], [], [], _START_SECONDS)[0])
    except BaseException:
        # Ctrl-C does not reach the child, which has a session of its own.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if has_spoken and os.read(reading, 1) == _READY:
        return 0
    if not has_spoken:
        os.kill(child, signal.SIGKILL)
        commands.fail("serve", f"the server is not ready after {_START_SECONDS:g} seconds")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code > 0 else ExitCode.USAGE


def background_servers() -> list[BackgroundServer]:
    """Return the servers that run in the background, in the order of their names."""
    found = []
    for path in sorted(state_folder().glob("server-*.json")):
        with contextlib.suppress(OSError, ValueError):
            known = ReadyServer.load(path)
            server = BackgroundServer.of(known.port, Path(known.uds) if known.uds else None)
            if server.running():
                found.append(server)
    return found


def stop_server(server: BackgroundServer, seconds: float) -> bool:
    """Stop a server in the background, and return whether it has ended by itself.

    Args:
        server: The server.
        seconds: How long it may take before it is killed.

    Raises:
        BackgroundError: It does not run, or does not end although it is killed.
    """
    running = server.running()
    if running is None:
        raise BackgroundError(f"no server runs in the background on {server.name}")
    with _signals_to(running.pid, server) as send:
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, _KILL_SECONDS)):
            send(number)
            deadline = time.monotonic() + patience
            while server.running() is not None:
                if time.monotonic() >= deadline:
                    break
                time.sleep(_POLL_SECONDS)
            else:
                return number == signal.SIGTERM
    raise BackgroundError(f"the server on {server.name} (PID {running.pid}) does not end")


@contextlib.contextmanager
def _signals_to(pid: int, server: BackgroundServer) -> Iterator[Callable[[signal.Signals], None]]:
    """Return a function that sends signals to the process of a server, and to no other that has got its PID since."""
    try:
        handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    except OSError:
        handle = None

    def send(number: signal.Signals) -> None:
        # The lock is held by the process with this PID, so that it is still the one to which the handle leads.
        if server.running() is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if handle is None:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(handle, number)

    try:
        yield send
    finally:
        if handle is not None:
            os.close(handle)
