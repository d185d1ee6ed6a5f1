"""One run of a program with a deadline: what it printed last, how it ended, and that nothing of it is left running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Final

from seedbed_mock.clock import real_monotonic
from seedbed_mock.observation import ProgramExit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


MARK_VARIABLE: Final = "SEEDBED_DRILL"
"""Environment variable by which the processes of one run are found, wherever they have moved."""

FOLDER_VARIABLE: Final = "SEEDBED_DRILL_FOLDER"
"""Environment variable with an empty folder for what a program remembers, so that no run knows of another."""

_KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)
_GRACE_SECONDS: Final = 2.0
"""How long a process may take to end after SIGTERM."""

_POLL_SECONDS: Final = 0.02
_KEPT_BYTES: Final = 16_384
_PIECE: Final = 65_536
_MUCH: Final = 10 * 1024 * 1024
"""In bytes: so much output is worth a line."""


@dataclass(slots=True)
class ProgramResult:
    """How a run of a program went.

    Attributes:
        exit: How it ended.
        seconds: How long it took.
        printed: Number of bytes that it printed.
        left: Number of processes that it left running, and that were ended.
        ignored: Whether it had to be killed, because it ignored SIGTERM.
    """

    exit: ProgramExit
    seconds: float
    printed: int = 0
    left: int = 0
    ignored: bool = False

    def notes(self) -> Iterator[str]:
        """Return what is worth a line beside the verdicts, each as one sentence."""
        if self.exit.code is None:
            yield f"It was stopped after {self.seconds:.1f} s{', and ignored SIGTERM' if self.ignored else ''}."
        if self.left:
            left = "1 process running, which was" if self.left == 1 else f"{self.left} processes running, which were"
            yield f"It left {left} ended."
        if self.printed > _MUCH:
            yield f"It printed {self.printed / 1024 / 1024:.0f} MiB, of which only the end is kept."


@dataclass
class PipeTail:
    """Reads a pipe to its end and keeps the last bytes.

    Attributes:
        pipe: The pipe.
        copy: File descriptor to which everything is written, too; ``None`` for none.
        size: Number of bytes so far.
    """

    pipe: IO[bytes] | None
    copy: int | None = None
    size: int = 0
    pieces: deque[bytes] = field(default_factory=deque)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        # A pipe that is closed meanwhile has nothing more to say.
        with contextlib.suppress(OSError, ValueError):
            while self.pipe and (piece := os.read(self.pipe.fileno(), _PIECE)):
                self.size += len(piece)
                if self.copy is not None:
                    _write_all(self.copy, piece)
                self.pieces.append(piece[-_KEPT_BYTES:])
                while sum(map(len, self.pieces)) - len(self.pieces[0]) >= _KEPT_BYTES:
                    self.pieces.popleft()

    def text(self) -> str:
        """Return the end of what was read."""
        self.thread.join(_GRACE_SECONDS)
        if self.pipe:
            self.pipe.close()
        return b"".join(self.pieces)[-_KEPT_BYTES:].decode("utf-8", "replace")


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def run_program(
    command: Sequence[str], environment: Mapping[str, str], deadline: float, stop: threading.Event
) -> ProgramResult:
    """Run a program to its end, or to the deadline.

    Args:
        command: The program and its arguments.
        environment: Its environment.
        deadline: Seconds after which it is stopped.
        stop: Stops it early.

    Raises:
        OSError: The program cannot be run.
    """
    with TemporaryDirectory(prefix="seedbed-drill-", ignore_cleanup_errors=True) as folder:
        return _run_in(folder, command, environment, deadline, stop)


def _run_in(
    folder: str, command: Sequence[str], environment: Mapping[str, str], deadline: float, stop: threading.Event
) -> ProgramResult:
    mark, started = token_hex(16), real_monotonic()
    process = subprocess.Popen(  # noqa: S603 (the command of the user)
        command,
        env={**environment, MARK_VARIABLE: mark, FOLDER_VARIABLE: folder},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A group of its own: Ctrl-C is for the drill, which ends the program in its own way.
        start_new_session=os.name == "posix",
    )
    output, errors = PipeTail(process.stdout), PipeTail(process.stderr)
    ignored = False
    try:
        while process.poll() is None and real_monotonic() < started + deadline and not stop.wait(_POLL_SECONDS):
            pass
        code = process.poll()
    finally:
        seconds = real_monotonic() - started
        if process.poll() is None:
            ignored = not _end(process, mark)
        left = _end_leftovers(process.pid, mark)
    exited = ProgramExit(code, errors.text())
    output.text()
    return ProgramResult(exited, seconds, output.size + errors.size, left if code is not None else 0, ignored)


def _end(process: subprocess.Popen[bytes], mark: str) -> bool:
    """End a program and all its processes, and return whether it obeyed SIGTERM."""
    _signal_all(_processes(process.pid, mark), signal.SIGTERM)
    obeyed = True
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        obeyed = False
        _signal_all(_processes(process.pid, mark), _KILL)
        process.wait()
    return obeyed


def _end_leftovers(group: int, mark: str) -> int:
    """End the processes that a program left behind, and return how many there were."""
    found = _processes(group, mark)
    for number in (signal.SIGTERM, _KILL):
        _signal_all(_processes(group, mark), number)
        end = real_monotonic() + _GRACE_SECONDS
        while _processes(group, mark) and real_monotonic() < end:
            time.sleep(_POLL_SECONDS)
    return len(found)


def _processes(group: int, mark: str) -> list[int]:
    """Return the running processes of a program: those of its group, and those that have its mark."""
    if sys.platform != "linux":
        return [group] if _exists(-group) else []
    found, wanted = [], f"{MARK_VARIABLE}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        # A process may end while it is looked at, or belong to somebody else.
        with contextlib.suppress(OSError, ValueError):
            # The name of the program, which comes before in brackets, may contain anything.
            state, _, its_group, *_ = (path / "stat").read_text().rpartition(")")[2].split()
            is_marked = int(its_group) == group or wanted in (path / "environ").read_bytes().split(b"\0")
            if state not in "ZX" and is_marked:
                found.append(int(path.name))
    return found


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def _signal_all(processes: Sequence[int], number: int) -> None:
    for each in processes:
        with contextlib.suppress(OSError):
            os.kill(each, number)
