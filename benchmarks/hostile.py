"""Attack the mock server: fuzzed requests, hostile clients and signals at any moment.

The script exits 1 and says why if a response has no envelope or takes too long, or if the server prints a traceback,
grows, or does not stop within a second.
"""

import argparse
import contextlib
import json
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from seedbed_schemas import job_api, local
from sides import CREATE, REQUEST, SERVE, SUCCESS

BATCH = 16
SECONDS_TO_STOP = 1.0
MOST_GROWTH = 1.25
MIB = 1024 * 1024

RECORD, CREDIT = job_api().record_info, job_api().credit
WORDS = (
    "",
    "0",
    "null",
    "[]",
    "{}",
    '"',
    "\\",
    "\x00",
    "é",
    "\ud83d\ude00",
    "[[fault:",
    "]]",
    "1e309",
    "true",
    "-1",
    "\r\n",
)
RULES = (
    *("402", "429; p=0.5", "500; nth=3", "455; every=2; times=5", "task.fail code=422 after=0", "task.lost; times=1"),
    *("task.orphan; p=0.1", "callback.twice", "result.cut", "402; prompt-like=(a|b)*c", "429; key=seedbed-key"),
    *(
        "501; since=5; until=6",
        "505; space=a",
        "nonsense",
        "429; p=",
        "402; prompt-like=((a{90}){90}){90}",
        ";;;",
        "=" * 50,
    ),
)


FIELDS = ("model", "input", "callBackUrl", "x")
PROMPT_UNITS = (
    *("[[fault:", "[[fault: 402; nth=9]]", "a", "\\", "[", '"', "\0", "]]", "日", "[[fault: 429; prompt-like=(a*)*]]"),
)

SHARE_OF_SCALARS, SHARE_OF_MUTATED_RULES = 0.75, 0.3
MOST_PROBLEMS = 20
HELD_CALLBACKS = 30


@dataclass
class Findings:
    """What went wrong, and the figures."""

    problems: list[str] = field(default_factory=list)

    def require(self, holds: bool, problem: str) -> None:  # noqa: FBT001 (a condition)
        """Note a problem unless a condition holds."""
        if not holds:
            self.problems.append(problem)
            print(f"PROBLEM: {problem}", flush=True)


@dataclass
class Server:
    """A server process."""

    process: "subprocess.Popen[bytes]"
    port: int
    errors: Path

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


# Requests


def head(method: str, target: str, *lines: str, key: str = local.KEY) -> bytes:
    """Return the head of a request."""
    start = (f"{method} {target} HTTP/1.1", f"Host: {local.HOST}", f"Authorization: Bearer {key}", *lines)
    return "\r\n".join((*start, "", "")).encode("latin-1", "replace")


def create(body: bytes, *lines: str, key: str = local.KEY) -> bytes:
    """Return a createTask request."""
    return head("POST", CREATE, f"Content-Length: {len(body)}", *lines, key=key) + body


def mutated(source: random.Random, text: bytes) -> bytes:
    """Return a text with some bytes replaced, removed, repeated or inserted."""
    changed = bytearray(text)
    for _ in range(source.randint(1, 4)):
        at, size = source.randrange(len(changed) + 1), source.randint(0, 6)
        changed[at : at + size] = source.choice(
            (
                source.randbytes(source.randint(0, 6)),
                source.choice(WORDS).encode(errors="surrogatepass"),
                changed[at : at + size] * 2,
            )
        )
    return bytes(changed)


def with_prompt(prompt: str, **more: object) -> bytes:
    """Return a valid body with another prompt."""
    return json.dumps({**REQUEST, "input": {**REQUEST["input"], "prompt": prompt}, **more}).encode()


def odd_value(source: random.Random, depth: int = 3) -> object:
    """Return any JSON value."""
    scalars = (
        *(None, True, source.choice(WORDS), "x" * source.randint(0, 4000), source.randint(-(2**70), 2**70)),
        source.random() * 10 ** source.randint(-300, 300),
    )
    if not depth or source.random() < SHARE_OF_SCALARS:
        return source.choice(scalars)
    inner = [odd_value(source, depth - 1) for _ in range(source.randint(0, 5))]
    names = [f"{source.choice(WORDS)}{index}" for index in range(len(inner))]
    return source.choice((inner, dict(zip(names, inner, strict=True))))


def odd_rule(source: random.Random) -> str:
    """Return a fault rule, often an invalid one, in the characters that a header can have."""
    rule = source.choice(RULES)
    if source.random() < SHARE_OF_MUTATED_RULES:
        rule = mutated(source, rule.encode()).decode("latin-1")
    return "".join(character for character in rule if character.isprintable()).strip() or "402"


def changed_body(source: random.Random) -> bytes:
    """Return a request with a valid body with some bytes changed."""
    return create(mutated(source, json.dumps(REQUEST).encode()))


def odd_fields(source: random.Random) -> bytes:
    """Return a request with a body with a field of any value."""
    return create(json.dumps({**REQUEST, source.choice(FIELDS): odd_value(source)}).encode())


def rule_in_prompt(source: random.Random) -> bytes:
    """Return a request with a prompt with a fault rule."""
    return create(with_prompt(f"hill [[fault: {odd_rule(source)}]] {source.choice(WORDS)}"))


def rule_in_header(source: random.Random) -> bytes:
    """Return a request with a header with a fault rule, in one of three spaces."""
    return create(
        with_prompt("hill"), f"X-Seedbed-Fault: {odd_rule(source)}", f"X-Seedbed-Space: {source.choice('abc')}"
    )


def rule_in_key(source: random.Random) -> bytes:
    """Return a request with a key that gives a fault rule."""
    return create(with_prompt("hill"), key=f"seedbed-{odd_rule(source)}".replace(" ", ","))


def odd_query(source: random.Random) -> bytes:
    """Return a request with a query of any size."""
    value = quote(source.choice(WORDS) * source.randint(0, 40), safe="&=%", errors="replace")
    return head("GET", f"{RECORD.path}?{source.choice((RECORD.query, 'x'))}={value}&{'a=b&' * source.randint(0, 50)}")


def odd_path(source: random.Random) -> bytes:
    """Return a request to an unknown path or method."""
    return head(source.choice(("GET", "PUT", "DELETE", "OPTIONS")), "/" + quote(source.choice(WORDS), errors="replace"))


def near_the_limit(source: random.Random) -> bytes:
    """Return a request with a prompt near the size limit."""
    unit = source.choice(PROMPT_UNITS)
    return create(with_prompt(unit * (source.randint(MIB // 4, MIB - 500) // max(len(json.dumps(unit)) - 2, 1))))


KINDS = {
    changed_body: 250,
    odd_fields: 150,
    rule_in_prompt: 150,
    rule_in_header: 150,
    rule_in_key: 100,
    odd_query: 100,
    odd_path: 98,
    near_the_limit: 2,
}
"""Kinds of requests whose framing is valid, so that others may follow on the connection, and how often each is sent."""


def unframed(source: random.Random) -> bytes:
    """Return a request that is mutated as a whole, so that the parser may refuse it."""
    whole = create(json.dumps(REQUEST).encode(), *(f"A{number}: b" for number in range(source.choice((0, 0, 0, 300)))))
    return mutated(source, whole[: source.randint(20, len(whole))])


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


def has_envelope(body: bytes) -> bool:
    """Return whether a body is an envelope of the service."""
    try:
        envelope = json.loads(body)
    except ValueError:
        return False
    return isinstance(envelope, dict) and isinstance(envelope.get("code"), int) and isinstance(envelope.get("msg"), str)


# Attacks


@dataclass
class Fuzzing:
    """The state of fuzzing one server."""

    server: Server
    findings: Findings
    slowest: float = 0.0
    sent: int = 0

    def pipelined(self, source: random.Random, connection: socket.socket) -> None:
        """Send a batch of requests on a connection, and check the responses."""
        requests = [make(source) for make in source.choices(list(KINDS), list(KINDS.values()), k=BATCH)]
        reader, started = Reader(connection), time.perf_counter()
        # In a thread if they are large: the server stops to read while a client reads nothing.
        sender = threading.Thread(target=connection.sendall, args=(b"".join(requests),))
        sender.start()
        for request in requests:
            response = reader.response()
            is_fine = response is not None and has_envelope(response[1])
            self.findings.require(is_fine, f"{response!r:.200} to {request[:300]!r}")
            if response is None:
                raise ConnectionError
        sender.join()
        self.slowest = max(self.slowest, time.perf_counter() - started)
        self.sent += BATCH

    def alone(self, source: random.Random) -> None:
        """Send one request on a connection of its own, half-close it, and check what comes back."""
        request, started = unframed(source), time.perf_counter()
        with self.server.connect() as connection:
            with contextlib.suppress(OSError):
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            reader = Reader(connection)
            while response := reader.response():
                self.findings.require(has_envelope(response[1]), f"{response!r:.200} to {request[:300]!r}")
        self.slowest = max(self.slowest, time.perf_counter() - started)
        self.sent += 1


def fuzz(server: Server, findings: Findings, requests: int, slowest: float, seed: int) -> None:
    """Send fuzzed requests: one in 65 is mutated as a whole and has a connection of its own."""
    source, run = random.Random(seed), Fuzzing(server, findings)
    rules = {"rules": ["429; p=0.05", "task.fail; p=0.1", '500; prompt-like="(x+x+)+y"', "callback.twice; p=0.1"]}
    content = json.dumps(rules).encode()
    with server.connect() as control:
        control.sendall(
            head("POST", "/__seedbed/faults", f"Content-Length: {len(content)}").replace(
                b"Host: 127.0.0.1", b"Host: 127.0.0.1:%d" % server.port
            )
            + content
        )
        answered = Reader(control).response()
        findings.require(answered is not None and answered[0] == SUCCESS, f"the rules are refused: {answered!r}")
    early, started, reported = 0.0, time.perf_counter(), 0
    while run.sent < requests and len(findings.problems) < MOST_PROBLEMS:
        with server.connect() as connection, contextlib.suppress(ConnectionError):
            for _ in range(40):
                run.pipelined(source, connection)
        for _ in range(10):
            run.alone(source)
        if run.sent // 50_000 > reported:
            reported = run.sent // 50_000
            print(f"{run.sent:,} requests, {server.resident:.0f} MiB", flush=True)
        if not early and run.sent > requests / 4:
            early = server.resident
    late, seconds = server.resident, time.perf_counter() - started
    print(
        f"fuzzing: {run.sent:,} requests in {seconds:.0f} s, "
        f"the slowest batch of {BATCH} took {run.slowest * 1000:.0f} ms"
    )
    print(f"memory: {early:.0f} MiB after a quarter, {late:.0f} MiB at the end")
    findings.require(run.slowest <= slowest, f"a batch took {run.slowest:.2f} s")
    findings.require(not early or late <= early * MOST_GROWTH, f"the server grew from {early:.0f} to {late:.0f} MiB")
    log = server.errors.read_text(encoding="utf-8", errors="replace")
    findings.require("Traceback" not in log, f"the server printed: {log[:500]}")


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
    source, url, times = random.Random(seed), receiver(), []
    request = create(with_prompt("hill", callBackUrl=url))
    for _ in range(stops):
        with serving("--task-seconds", "0") as server:
            connections = [server.connect() for _ in range(5)]
            for connection in connections:
                connection.sendall(request * source.randint(0, 60))
            time.sleep(source.random() * 0.15)
            started = time.perf_counter()
            server.process.send_signal(source.choice((signal.SIGTERM, signal.SIGINT)))
            try:
                code = server.process.wait(30)
            except subprocess.TimeoutExpired:
                code = -1
            times.append(time.perf_counter() - started)
            log = server.errors.read_text(encoding="utf-8", errors="replace")
            findings.require(code == 0 and not log, f"a stopped server returned {code} and printed: {log[:500]}")
            for connection in connections:
                connection.close()
    print(
        f"signals: {stops} servers stopped, median {statistics.median(times) * 1000:.0f} ms, "
        f"slowest {max(times) * 1000:.0f} ms"
    )
    findings.require(max(times) <= seconds, f"a server took {max(times):.2f} s to stop")


def main() -> int:
    """Run all attacks, and return 1 if one of them succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("requests", 1_000_000), ("stops", 200), ("idle", 10_000), ("drips", 200), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--slowest", type=float, default=0.5, help="longest time of a batch of requests in seconds")
    parser.add_argument("--stop-within", type=float, default=SECONDS_TO_STOP, help="longest time of a stop in seconds")
    chosen, findings = parser.parse_args(), Findings()
    with serving("--task-seconds", "0") as server:
        if chosen.idle:
            crowd(server, chosen.idle, chosen.drips)
        if chosen.requests:
            fuzz(server, findings, chosen.requests, chosen.slowest, chosen.seed)
    if chosen.stops:
        stop_anywhere(findings, chosen.stops, chosen.stop_within, chosen.seed)
    print(f"{len(findings.problems)} problems")
    return int(bool(findings.problems))


if __name__ == "__main__":
    assert Path("/proc").exists(), "the script reads memory from /proc, which exists only on Linux"
    sys.exit(main())
