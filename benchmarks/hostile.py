"""Attack the mock server: fuzzed requests, hostile clients and signals at any moment.

The script exits 1 and says why if a response has no envelope with a documented code or takes too long, or if the server
prints a traceback, grows, fails ``seedbed check`` afterwards, or does not stop within a second. Each check runs as it
goes, so that an interrupted run proves what it reports.

Other programs on the machine slow the server down. The limits therefore apply to its own time: the time that passed
without that in which the server, or this script, was ready to run and had no core.
"""

import argparse
import contextlib
import functools
import json
import os
import random
import resource
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hostile_requests import BATCHED, MIB, create, head, unframed, with_prompt
from seedbed_mock.options import ServerOptions
from seedbed_schemas import job_api, local
from seedbed_schemas.dialect import dialects
from sides import CONTRACT, SEEDBED, SERVE, SUCCESS

BATCH = 16
SECONDS_TO_STOP = 1.0
MOST_GROWTH = 1.25
REPORTED_EVERY = 50_000
ATTEMPTS = 4

CREDIT = job_api().credit
DOCUMENTED = frozenset(
    {code.number for code in CONTRACT.codes}.union(
        *(case.numbers(CONTRACT.codes_by_name) for case in dialects()[ServerOptions().dialect].cases.values())
    )
)
"""The codes of the contract, and those that the service is known to send in their place."""

SECONDS_TO_CHECK = 120

MOST_PROBLEMS = 20
HELD_CALLBACKS = 30


@dataclass
class Findings:
    """What went wrong, and the figures."""

    problems: list[str] = field(default_factory=list)

    def require(self, holds: bool, problem: str) -> None:  # noqa: FBT001 (a condition)
        """Note a problem unless a condition holds."""
        if not holds:
            self.problem(problem)

    def problem(self, problem: str) -> None:
        """Note a problem."""
        self.problems.append(problem)
        print(f"PROBLEM: {problem}", flush=True)


class Times(NamedTuple):
    """Seconds of a server: those that passed, those of its own, and those in which it computed."""

    passed: float = 0.0
    own: float = 0.0
    computed: float = 0.0

    def __str__(self) -> str:
        passed, own, computed = (f"{seconds * 1000:.0f} ms" for seconds in self)
        return f"{own} of its own ({computed} of computing, {passed} passed)"

    def longest(self, other: "Times") -> "Times":
        """Return the larger one of each."""
        return Times(*map(max, self, other))


@dataclass
class Server:
    """A server process."""

    process: "subprocess.Popen[bytes]"
    port: int
    errors: Path
    _checked: int = 0

    def stopwatch(self) -> "Stopwatch":
        """Return a stopwatch that starts now."""
        return Stopwatch(self)

    def new_log(self) -> str:
        """Return what the server has printed to stderr since the last call."""
        with self.errors.open("rb") as log:
            log.seek(self._checked)
            text = log.read()
        self._checked += len(text)
        return text.decode(errors="replace")

    @property
    def resident(self) -> float:
        """Resident memory in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize() / MIB

    def connect(self) -> socket.socket:
        """Return a new connection."""
        connection = socket.create_connection((local.HOST, self.port), timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


class Stopwatch:
    """Measures the time of a server; a process that has ended is measured until somebody waits for it."""

    def __init__(self, server: Server) -> None:
        self._main_thread = Path(f"/proc/{server.process.pid}/schedstat")
        self._started = self._now()

    def read(self) -> Times:
        """Return the times since the start."""
        passed, computed, queued, queued_here = (
            now - before for now, before in zip(self._now(), self._started, strict=True)
        )
        return Times(passed, max(computed, passed - queued - queued_here), computed)

    def _now(self) -> tuple[float, float, float, float]:
        # In nanoseconds: on a core, and ready to run without one.
        computed, queued, _ = map(int, self._main_thread.read_text(encoding="ascii").split())
        _, queued_here, _ = map(int, Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split())
        return time.perf_counter(), computed / 1e9, queued / 1e9, queued_here / 1e9


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Server]:
    """Run a server process, and print what it wrote to stderr."""
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "stderr"
        with errors.open("wb") as stderr:
            command = [*SERVE, "--port", "0", *options]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr)
        assert process.stdout
        try:
            port = int(process.stdout.readline().rsplit(b":", 1)[1])
            yield Server(process, port, errors)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


# Responses


class Reader:
    """Reads responses from a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._read = b""

    def response(self) -> tuple[int, bytes] | None:
        """Return status and body of the next response; ``None`` at the end of the connection."""
        while b"\r\n\r\n" not in self._read:
            if not self._more():
                return None
        lines, _, self._read = self._read.partition(b"\r\n\r\n")
        if lines.startswith(b"HTTP/1.1 100"):
            return self.response()
        size = int(lines.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        while len(self._read) < size:
            if not self._more():
                return None
        body, self._read = self._read[:size], self._read[size:]
        return int(lines.split()[1]), body

    def _more(self) -> bool:
        try:
            chunk = self._connection.recv(65536)
        except ConnectionError:
            chunk = b""
        self._read += chunk
        return bool(chunk)


def is_documented(body: bytes, request: bytes) -> bool:
    """Return whether a body is an envelope with a documented code, or with one that a rule in the request asks for."""
    try:
        envelope = json.loads(body)
    except ValueError:
        return False
    if not isinstance(envelope, dict) or not isinstance(envelope.get("msg"), str):
        return False
    code = envelope.get("code")
    return code in DOCUMENTED or (envelope["msg"] == f"Simulated code {code}." and str(code).encode() in request)


# Attacks


@dataclass
class Fuzzing:
    """The state of fuzzing one server."""

    server: Server
    findings: Findings
    most_seconds: float
    slowest: Times = field(default_factory=Times)
    sent: int = 0
    repeated: int = 0
    early: float = 0.0
    """Resident memory in MiB, once the server holds all that it keeps."""

    def pipelined(self, source: random.Random, connection: socket.socket) -> None:
        """Send a batch of requests on a connection, and check the responses."""
        requests = [make(source) for make in source.choices(list(BATCHED), list(BATCHED.values()), k=BATCH)]
        reader = Reader(connection)

        def send() -> None:
            # In a thread if they are large: the server stops to read while a client reads nothing.
            sender = threading.Thread(target=connection.sendall, args=(b"".join(requests),))
            sender.start()
            for request in requests:
                response = reader.response()
                is_fine = response is not None and is_documented(response[1], request)
                self.findings.require(is_fine, f"{response!r:.200} to {request[:300]!r}")
                if response is None:
                    raise ConnectionError
            sender.join()

        self._measure(send, requests)

    def alone(self, source: random.Random) -> None:
        """Send one request on a connection of its own, half-close it, and check what comes back."""
        request = unframed(source)

        def send() -> None:
            with self.server.connect() as connection:
                with contextlib.suppress(OSError):
                    connection.sendall(request)
                    connection.shutdown(socket.SHUT_WR)
                reader = Reader(connection)
                while response := reader.response():
                    self.findings.require(
                        is_documented(response[1], request), f"{response!r:.200} to {request[:300]!r}"
                    )

        self._measure(send, [request])

    def _measure(self, send: Callable[[], None], requests: list[bytes]) -> None:
        """Send requests and check how long the server takes.

        Threads of both sides can wait for a core, too, and are not measured: requests that took long without computing
        are sent again, and are a problem only if they take long each time.
        """
        for attempt in range(1, ATTEMPTS + 1):
            stopwatch = self.server.stopwatch()
            send()
            times = stopwatch.read()
            self.sent += len(requests)
            if times.own <= self.most_seconds:
                self.slowest = self.slowest.longest(times)
                return
            if attempt == ATTEMPTS or times.computed > self.most_seconds:
                self.findings.problem(f"the server took {times} for {[request[:100] for request in requests]}")
                return
            self.repeated += 1

    def check_server(self) -> None:
        """Check the log and the memory of the server."""
        log, resident = self.server.new_log(), self.server.resident
        self.findings.require("Traceback" not in log, f"the server printed: {log[:2000]}")
        is_flat = not self.early or resident <= self.early * MOST_GROWTH
        self.findings.require(is_flat, f"the server grew from {self.early:.0f} to {resident:.0f} MiB")

    def report(self) -> None:
        """Print what has been sent, and what it showed."""
        print(
            f"{self.sent:,} requests, {self.server.resident:.0f} MiB, {len(self.findings.problems)} problems; "
            f"{self.repeated} batches of {BATCH} repeated, the slowest of the others: {self.slowest}",
            flush=True,
        )


def fuzz(server: Server, findings: Findings, requests: int, slowest: float, seed: int) -> None:
    """Send fuzzed requests: one in 65 is mutated as a whole and has a connection of its own."""
    source, run = random.Random(seed), Fuzzing(server, findings, slowest)
    rules = {"rules": ["429; p=0.05", "task.fail; p=0.1", '500; prompt-like="(x+x+)+y"', "callback.twice; p=0.1"]}
    control(server, "POST", "faults", rules, findings)
    started, reported = time.perf_counter(), 0
    try:
        while run.sent < requests and len(findings.problems) < MOST_PROBLEMS:
            with server.connect() as connection, contextlib.suppress(ConnectionError):
                for _ in range(40):
                    run.pipelined(source, connection)
            for _ in range(10):
                run.alone(source)
            run.check_server()
            if run.sent // REPORTED_EVERY > reported:
                reported = run.sent // REPORTED_EVERY
                run.report()
            if not run.early and run.sent > requests / 4:
                run.early = server.resident
    finally:
        run.report()
        print(f"{time.perf_counter() - started:.0f} s; {run.early:.0f} MiB after a quarter of the requests")


def control(server: Server, method: str, path: str, content: object, findings: Findings) -> None:
    """Send a request to the control API, which must succeed."""
    body = json.dumps(content).encode()
    request = head(method, f"/__seedbed/{path}", f"Content-Length: {len(body)}") + body
    with server.connect() as connection:
        # The control API responds only to requests that name the port.
        connection.sendall(request.replace(b"Host: 127.0.0.1", b"Host: 127.0.0.1:%d" % server.port, 1))
        response = Reader(connection).response()
    findings.require(response is not None and response[0] == SUCCESS, f"{method} {path} is refused: {response!r}")


def check_conformance(server: Server, findings: Findings) -> None:
    """Check that the server still honours the contract, without the rules of the attack."""
    control(server, "DELETE", "faults", {}, findings)
    command = [*SEEDBED, "check", f"http://{local.HOST}:{server.port}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_CHECK, check=False)
    output = result.stdout + result.stderr
    findings.require(result.returncode == 0, f"seedbed check returned {result.returncode}: {output[-2000:]}")
    print(f"seedbed check afterwards: {result.stdout.strip().rpartition(chr(10))[2]}")
    log = server.new_log()
    findings.require("Traceback" not in log, f"the server printed: {log[:2000]}")


def p99(server: Server, calls: int) -> float:
    """Return the 99th percentile of the time of a call, in milliseconds."""
    times = []
    with server.connect() as connection:
        reader = Reader(connection)
        for _ in range(calls):
            started = time.perf_counter()
            connection.sendall(head("GET", CREDIT.path))
            assert reader.response()
            times.append((time.perf_counter() - started) * 1000)
    return statistics.quantiles(times, n=100)[98]


def crowd(server: Server, idle: int, drips: int) -> None:
    """Print the p99 of others before and after idle and dripping connections are opened."""
    soft = min(idle + drips + 1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    before = p99(server, 2000)
    with contextlib.ExitStack() as stack:
        for _ in range(idle):
            connection = stack.enter_context(server.connect())
            connection.sendall(head("GET", CREDIT.path))
            assert Reader(connection).response()
        dripping = [stack.enter_context(server.connect()) for _ in range(drips)]
        stopped = threading.Event()

        def drip() -> None:
            while not stopped.wait(0.5):
                for connection in dripping:
                    with contextlib.suppress(OSError):
                        connection.sendall(b"G")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        after = p99(server, 2000)
        stopped.set()
        thread.join()
        print(
            f"p99 of others: {before:.2f} ms before, {after:.2f} ms with {idle:,} idle and {drips} dripping "
            f"connections; {server.resident:.0f} MiB"
        )


def receiver() -> str:
    """Start a receiver of callbacks that responds late, and return its URL."""
    listener = socket.create_server((local.HOST, 0), backlog=4096)

    def accept() -> None:
        held: list[socket.socket] = []
        while True:
            held.append(listener.accept()[0])
            if len(held) > HELD_CALLBACKS:
                with contextlib.suppress(OSError):
                    held[0].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                held.pop(0).close()

    threading.Thread(target=accept, daemon=True).start()
    return f"http://{local.HOST}:{listener.getsockname()[1]}/"


def stop_anywhere(findings: Findings, stops: int, seconds: float, seed: int) -> None:
    """Stop servers with SIGTERM at random moments while they deliver callbacks, and check that they end in time."""
    source, url, times = random.Random(seed), receiver(), list[Times]()
    request = create(with_prompt("hill", callBackUrl=url))
    try:
        for _ in range(stops):
            with serving("--task-seconds", "0") as server:
                connections = [server.connect() for _ in range(5)]
                for connection in connections:
                    connection.sendall(request * source.randint(0, 60))
                time.sleep(source.random() * 0.15)
                times.append(time_to_stop(server, source.choice((signal.SIGTERM, signal.SIGINT)), findings))
                findings.require(times[-1].own <= seconds, f"a server took {times[-1]} to stop")
                for connection in connections:
                    connection.close()
    finally:
        if times:
            passed, own = (statistics.median(each) for each in ([t.passed for t in times], [t.own for t in times]))
            longest = functools.reduce(Times.longest, times)
            print(f"{len(times)} servers stopped; median {own * 1000:.0f} ms of its own, {passed * 1000:.0f} ms passed")
            print(f"the longest stop: {longest}")


def time_to_stop(server: Server, number: signal.Signals, findings: Findings) -> Times:
    """Send a signal to a server, and return how long it took to end; check its exit code and what it printed."""
    process, stopwatch = server.process, server.stopwatch()
    # The end of the process is awaited without reaping it, so that its times can still be read.
    ended = select.poll()
    descriptor = os.pidfd_open(process.pid)
    ended.register(descriptor, select.POLLIN)
    process.send_signal(number)
    has_ended = bool(ended.poll(30_000))
    times = stopwatch.read()
    os.close(descriptor)
    code = process.wait() if has_ended else None
    log = server.new_log()
    findings.require(code == 0 and not log, f"a stopped server returned {code} and printed: {log[:500]}")
    return times


def main() -> int:
    """Run all attacks, and return 1 if one of them succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("requests", 1_000_000), ("stops", 200), ("idle", 10_000), ("drips", 200), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--slowest", type=float, default=0.5, help="longest own time for a batch in seconds")
    parser.add_argument(
        "--stop-within", type=float, default=SECONDS_TO_STOP, help="longest own time of a stop in seconds"
    )
    chosen, findings = parser.parse_args(), Findings()
    with serving("--task-seconds", "0") as server:
        if chosen.idle:
            crowd(server, chosen.idle, chosen.drips)
        if chosen.requests:
            fuzz(server, findings, chosen.requests, chosen.slowest, chosen.seed)
            check_conformance(server, findings)
    if chosen.stops:
        stop_anywhere(findings, chosen.stops, chosen.stop_within, chosen.seed)
    print(f"{len(findings.problems)} problems")
    return int(bool(findings.problems))


if __name__ == "__main__":
    assert Path("/proc").exists(), "the script reads memory from /proc, which exists only on Linux"
    sys.exit(main())
