"""The commands that tools run as processes: each has a deadline, and none outlives the call that started it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

import anyio
from anyio import to_thread
from seedbed_schemas import local

from seedbed_mock.agents.answers import ToolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence


_AT_ONCE: Final = 2
"""Number of commands that run at the same time; a machine has few cores."""

_GRACE_SECONDS: Final = 10.0
"""How long a command may take to end after SIGTERM; a drill ends its program first."""

_PROGRESS_SECONDS: Final = 1.0
_KEPT_ERRORS: Final = 4000
_PROGRAM: Final = """\
from seedbed_mock.agents.programs import end_with_caller
end_with_caller()
from seedbed_mock.__main__ import command
raise SystemExit(command())
"""
_KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)

_OWN_VARIABLE: Final = re.compile(r"SEEDBED_\w+|\w*_PROXY", re.IGNORECASE)
"""Variables that lead a command of Seedbed to another server, or give it other options."""

_SECRET_VARIABLE: Final = re.compile(r"\w*(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended.

    Attributes:
        code: Exit code, negative for a signal.
        output: What it printed on standard output.
        errors: The end of what it printed on standard error.
    """

    code: int
    output: str
    errors: str


def clean_environment(inherited: Mapping[str, str], *, hides_secrets: bool = False) -> dict[str, str]:
    """Return an environment without the variables that lead commands to another server.

    Args:
        inherited: The environment of this process.
        hides_secrets: Whether each variable with the name of a secret gets the key of the mock server as its value, so
            that no program has a key that a paid service would accept.
    """
    kept = {name: value for name, value in inherited.items() if not _OWN_VARIABLE.fullmatch(name)}
    if hides_secrets:
        kept |= {name: local.KEY for name in kept if _SECRET_VARIABLE.fullmatch(name)}
    return kept


class Programs:
    """Runs commands of Seedbed; those of all clients share a few places."""

    def __init__(self) -> None:
        self._places = anyio.Semaphore(_AT_ONCE)

    async def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        seconds: float,
        progress: Callable[[float, float, str], Awaitable[None]],
    ) -> Finished:
        """Run ``seedbed`` with arguments in a process of its own, and return how it ended.

        The process is ended if this is cancelled, and if this process ends in whatever way.

        Args:
            arguments: What stands after ``seedbed``.
            environment: Environment of the process.
            seconds: Deadline, after which it is ended.
            progress: Takes the progress: the seconds so far, the deadline, and a sentence.

        Raises:
            ToolError: The deadline has passed.
        """
        async with self._places:
            process = await to_thread.run_sync(_start, arguments, environment)
            try:
                return await self._watch(process, arguments[0], seconds, progress)
            finally:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(_end, process)

    @staticmethod
    async def _watch(
        process: subprocess.Popen[bytes],
        name: str,
        seconds: float,
        progress: Callable[[float, float, str], Awaitable[None]],
    ) -> Finished:
        started, output, errors = time.monotonic(), None, b""

        async def announce() -> None:
            while True:
                await anyio.sleep(_PROGRESS_SECONDS)
                passed = round(time.monotonic() - started, 1)
                await progress(passed, seconds, f"seedbed {name} runs for {passed:.0f} s; it may take {seconds:g} s.")

        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as group:
                group.start_soon(announce)
                output, errors = await to_thread.run_sync(_read, process, abandon_on_cancel=True)
                group.cancel_scope.cancel()
        if output is not None:
            text = errors.decode(errors="replace")[-_KEPT_ERRORS:]
            return Finished(process.returncode, output.decode(errors="replace"), text)
        raise ToolError(
            f"seedbed {name} did not end within {seconds:g} s and was stopped.",
            fix="Pass a longer deadline, or let it do less.",
        )


def _start(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        start_new_session=True,
    )


def _read(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Return all output; standard input stays open, since its end would stop the command."""
    errors: list[bytes] = []
    assert process.stdout
    assert process.stderr
    pipe = process.stderr
    reader = threading.Thread(target=lambda: errors.append(_rest_of(pipe)), daemon=True)
    reader.start()
    output = _rest_of(process.stdout)
    reader.join()
    process.wait()
    return output, b"".join(errors)


def _rest_of(pipe: IO[bytes]) -> bytes:
    # The pipe is closed under the reader when the command is ended.
    with contextlib.suppress(ValueError, OSError):
        return pipe.read()
    return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command with all that it started, and wait until it has ended."""
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (_KILL, _GRACE_SECONDS)):
        if process.poll() is None:
            _send(process, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
    # What it left behind in its group.
    _send(process, _KILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with contextlib.suppress(OSError, ValueError):
                pipe.close()


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def end_with_caller() -> None:
    """End this process when the one that started it has ended.

    That process holds the other end of standard input, which the system closes when it ends in whatever way.
    """
    watched = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(watched, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="seedbed watch", daemon=True).start()
