"""Workers: several processes that accept the connections of the same sockets, and the process that watches over them.

A worker that dies is replaced. Workers end with the process that started them, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from seedbed_schemas import commands

from seedbed_mock.clock import real_monotonic

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


_END_SECONDS: Final = 8.0
"""How long the workers may take to end: longer than a server takes that is stuck."""

_SHORTEST_LIFE: Final = 1.0
"""In seconds: a worker that lived for less time is replaced only after it, so that no loop takes all of a core."""


_PAUSE_SECONDS: Final = 0.02


class Worker:
    """What a worker knows of the process that started it.

    Args:
        ready: Descriptor of the pipe on which it says that it is ready.
        alive: Descriptor of the pipe that ends with the process that started it.
    """

    def __init__(self, ready: int, alive: int) -> None:
        self._ready = ready
        self._alive = alive

    def say_ready(self, banner: str) -> None:
        """Let the other process know that this one accepts connections, and what to print about it."""
        with contextlib.suppress(OSError), os.fdopen(self._ready, "w", encoding="utf-8") as pipe:
            pipe.write(banner)

    def watch(self) -> None:
        """Stop when the process that started this one has ended; called in the event loop."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            loop.remove_reader(self._alive)
            os.kill(os.getpid(), signal.SIGTERM)

        loop.add_reader(self._alive, stop)


class Workers:
    """The workers of a server.

    Args:
        number: How many there are.
        work: What each of them does until it gets SIGTERM; returns the status with which it exits.
        on_ready: Called when all are ready, with what the last one says.
    """

    def __init__(self, number: int, work: Callable[[Worker], int], on_ready: Callable[[str], None]) -> None:
        self._number = number
        self._work = work
        self._on_ready = on_ready
        self._banner = ""
        self._started: dict[int, float] = {}
        self._is_stopping = False
        self._alive = os.pipe()

    def run(self) -> int:
        """Start the workers, and replace those that die until SIGINT or SIGTERM.

        Returns:
            0 if all workers have ended as they should, otherwise the status of the first one that could not start.
        """
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._stop)
        try:
            while len(self._started) < self._number and not self._is_stopping:
                if (status := self._start()) and not self._is_stopping:
                    return status
            if not self._is_stopping:
                self._on_ready(self._banner)
            self._keep_alive()
            return 0
        finally:
            self._end()
            for end in self._alive:
                os.close(end)

    def _keep_alive(self) -> None:
        while not self._is_stopping:
            if len(self._started) == self._number:
                self._wait_for_end()
            elif self._start():
                # Its own message says why, such as that Redis cannot be reached.
                time.sleep(_SHORTEST_LIFE)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        # Python goes on waiting after a signal, so the wait has to end with a worker.
        self._is_stopping = True
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        for pid in tuple(self._started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _start(self) -> int:
        """Start a worker and return 0 when it is ready, or the status with which it ended."""
        ready, say_ready = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            os.close(ready)
            self._begin(Worker(say_ready, self._alive[0]))
        os.close(say_ready)
        self._started[pid] = real_monotonic()
        with os.fdopen(ready, encoding="utf-8") as pipe:
            self._banner = pipe.read()
        if self._banner:
            return 0
        del self._started[pid]
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) or 1

    def _begin(self, worker: Worker) -> None:
        """Work in the new process, which ends here: what the other process cleans up is not this one's to clean up."""
        status = 1
        try:
            os.close(self._alive[1])
            # A group of its own: Ctrl-C is for the process that started it, which then stops each worker once.
            os.setpgid(0, 0)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            status = self._work(worker)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)

    def _wait_for_end(self) -> None:
        """Wait until a worker ends, and report it unless all are to end."""
        pid, status = os.waitpid(-1, 0)
        started = self._started.pop(pid, None)
        if started is None or self._is_stopping:
            return
        code = os.waitstatus_to_exitcode(status)
        commands.warn("serve", f"worker {pid} ended with status {code} and is replaced")
        time.sleep(max(_SHORTEST_LIFE - (real_monotonic() - started), 0))

    def _end(self) -> None:
        """End all workers, and those that do not end in time by force."""
        self._signal(signal.SIGTERM)
        end = real_monotonic() + _END_SECONDS
        while self._started and real_monotonic() < end:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid:
                self._started.pop(pid, None)
            else:
                time.sleep(_PAUSE_SECONDS)
        self._signal(signal.SIGKILL)
        for pid in self._started:
            os.waitpid(pid, 0)
