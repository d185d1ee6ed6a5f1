"""Wherever a paid call breaks off, and for whatever reason, the program learns of every task that it may have to pay.

A gateway between the client and the mock server fails at a chosen moment of a chosen request. After each combination of
a moment, a reason and a way to call, what the program knows is compared with the tasks and the balance of the server.
"""

import asyncio
import contextlib
import gc
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from seedbed_client import (
    AsyncSeedreamClient,
    PollingSchedule,
    PollingStep,
    SeedreamClient,
    Submission,
    SubmissionState,
    SubmissionUnknownError,
    Task,
    submissions_of,
)
from seedbed_mock import MockServer, running

POINTS = ["before connect", "headers sent", "body sent", "half an answer", "whole answer", "between polls", "download"]
KINDS = ["reset", "timeout", "cancel", "Ctrl-C", "hook error", "loop closed", "process killed"]
MODES = ["sync", "async"]
FORMS = ["generate", "handle"]

IMPOSSIBLE = {
    ("sync", "cancel"): "a thread cannot be cancelled",
    ("sync", "loop closed"): "a blocking call runs in no event loop",
}

PRICE = 6.5
QUICK = PollingSchedule(steps=(PollingStep(0, 0.001, 0.002),), timeout=5)
SECONDS = 0.15
"""Time limit of a request."""


class Case(NamedTuple):
    """A combination."""

    point: str
    kind: str
    mode: str
    form: str


COMBINATIONS = [Case(*each) for each in itertools.product(POINTS, KINDS, MODES, FORMS)]
POSSIBLE = [case for case in COMBINATIONS if (case.mode, case.kind) not in IMPOSSIBLE]

STAGES = {
    "headers sent": ("createTask", "headers"),
    "body sent": ("createTask", "answer"),
    "half an answer": ("createTask", "half"),
    "whole answer": ("createTask", "whole"),
    "download": ("/results/", "half"),
}
"""The request that the gateway breaks off, and the stage at which it does."""


class Gateway:
    """Passes requests on to a server. At one stage of one request it calls a function, then holds the connection.

    Args:
        port: Port of the server.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.operation, self.stage, self.has_struck = "", "", False
        self.strike: Callable[[socket.socket], object] = lambda _: None
        self._released = threading.Event()
        self._open: list[tuple[socket.socket, threading.Thread, Any]] = []
        self._accepted = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def fail_at(self, point: str, strike: Callable[[socket.socket], object]) -> None:
        self.settle()
        self._released.clear()
        self.has_struck = False
        self.operation, self.stage = STAGES.get(point, ("", ""))
        self.strike = strike

    def close_idle(self) -> None:
        for connection, _, _ in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def settle(self) -> None:
        """Let go of what is held, and wait until all that was received is processed."""
        self._released.set()
        # Connections are accepted in their order, so those of the program are accepted once this one is.
        with socket.create_connection(self._listener.getsockname()) as last, self._accepted:
            name = last.getsockname()
            self._accepted.wait_for(lambda: any(peer == name for _, _, peer in self._open))
        self.close_idle()
        for _, thread, _ in self._open:
            thread.join()
        self._open.clear()

    def close(self) -> None:
        self.settle()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                thread.start()
                with self._accepted:
                    self._open.append((connection, thread, peer))
                    self._accepted.notify_all()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            while True:
                self._pass_on(connection)

    def _pass_on(self, connection: socket.socket) -> None:
        head, rest = read_head(connection)
        is_meant = bool(self.operation) and self.operation.encode() in head.split(b"\r\n")[0]
        stage = self.stage if is_meant else ""
        if is_meant:
            self.operation = ""
        if stage == "headers":
            self._break_off(connection)
        request = head + read_body(connection, head, rest)
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            server.sendall(request)
            answer_head, answer_rest = read_head(server)
            answer = answer_head + read_body(server, answer_head, answer_rest)
        # The server names its own port in the URLs of results. All ports that systems choose have five digits.
        answer = answer.replace(b"127.0.0.1:%d/" % self._port, self.url.removeprefix("http://").encode() + b"/")
        if stage == "answer":
            self._break_off(connection)
        connection.sendall(answer[: len(answer) - 20] if stage == "half" else answer)
        if stage in {"half", "whole"}:
            self._break_off(connection)

    def _break_off(self, connection: socket.socket) -> None:
        self.has_struck = True
        self.strike(connection)
        self._released.wait()
        raise EOFError


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            raise EOFError
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def read_body(connection: socket.socket, head: bytes, body: bytes) -> bytes:
    names = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    size = int(names.get(b"content-length", b"0"))
    while len(body) < size:
        part = connection.recv(65536)
        if not part:
            raise EOFError
        body += part
    return body


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextlib.contextmanager
def silent_address() -> Iterator[str]:
    """Yield the URL of a port to which connections are neither accepted nor refused: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 (the signature is Python's)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def refusing_address() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


class OwnError(Exception):
    """An error of the user's own code."""


class StreamThenFail(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that fails once it has been sent."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body
        raise OwnError

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body
        raise OwnError


class Program:
    """A program that uses the client, and in which something fails.

    Args:
        case: The combination.
        url: URL of the service.
        close_idle: Closes the connections from the side of the server.
        learn: Called with each submission of which the client tells.
    """

    def __init__(
        self, case: Case, url: str, close_idle: Callable[[], object], learn: Callable[[Submission], object]
    ) -> None:
        self.case, self.url, self.close_idle, self.learn = case, url, close_idle, learn
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Any] | None = None
        self.has_failed = False

    def strike(self, connection: socket.socket | None = None) -> None:
        """Let the failure happen; called in the program's own thread, or by the gateway in another."""
        kind = self.case.kind
        if kind == "reset" and connection:
            reset(connection)
        elif kind == "reset":
            self.close_idle()
        elif kind == "hook error":
            raise OwnError
        elif kind == "Ctrl-C":
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        elif kind == "process killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.loop and kind == "cancel" and self.task:
            self.loop.call_soon_threadsafe(self.task.cancel)
        elif self.loop and kind == "loop closed":
            self.loop.call_soon_threadsafe(self.loop.stop)

    def strike_at(self, point: str) -> None:
        if self.case.point == point and not self.has_failed:
            self.has_failed = True
            self.strike()

    def on_submission(self, submission: Submission) -> None:
        self.learn(submission)
        if submission.state is SubmissionState.IN_DOUBT and self.case.kind in {"hook error", "process killed"}:
            self.strike_at("headers sent")
        if submission.state is SubmissionState.CREATED and self.case.kind not in {"reset", "timeout"}:
            self.strike_at("whole answer")

    def on_request(self, request: httpx2.Request) -> None:
        self.strike_at("before connect")
        if self.case.point == "body sent" and request.method == "POST":
            request.stream = StreamThenFail(request.content)

    def on_response(self, response: httpx2.Response) -> None:
        self.strike_at("download" if "/results/" in response.url.path else "half an answer")

    async def on_request_async(self, request: httpx2.Request) -> None:
        self.on_request(request)

    async def on_response_async(self, response: httpx2.Response) -> None:
        self.on_response(response)

    def sleep(self, _: float) -> None:
        self.strike_at("between polls")

    async def sleep_async(self, seconds: float) -> None:
        self.strike_at("between polls")
        await asyncio.sleep(seconds)

    def options(self) -> dict[str, Any]:
        sleep = self.sleep if self.case.mode == "sync" else self.sleep_async
        timeout = {"reset": SECONDS * 4, "timeout": SECONDS}.get(self.case.kind, 30)
        return {
            "polling": QUICK,
            "sleep": sleep,
            "timeout": timeout,
            "max_retries": 0,
            "on_submission": self.on_submission,
        }

    @property
    def has_hooks(self) -> bool:
        return self.case.kind == "hook error" and self.case.point not in {
            "headers sent",
            "whole answer",
            "between polls",
        }

    @property
    def prompt(self) -> str:
        return "a hill [[fault: task.stuck]]" if self.case[:2] == ("between polls", "timeout") else "a hill"

    @property
    def patience(self) -> float:
        return 0.05 if self.case[:2] == ("between polls", "timeout") else 5

    def run(self) -> tuple[Task, tuple[bytes, ...]]:
        if self.case.point == "before connect" and self.case.kind in {"Ctrl-C", "process killed"}:
            threading.Timer(0.02, self.strike).start()  # whenever it fires, the connection is not made
        return self._run_sync() if self.case.mode == "sync" else self._run_async()

    def _run_sync(self) -> tuple[Task, tuple[bytes, ...]]:
        hooks: Any = {"request": [self.on_request], "response": [self.on_response]}
        with contextlib.ExitStack() as stack:
            own = stack.enter_context(httpx2.Client(event_hooks=hooks, trust_env=False)) if self.has_hooks else None
            client = stack.enter_context(SeedreamClient(self.url, http_client=own, **self.options()))
            if self.case.form == "generate":
                task = client.generate(self.prompt, timeout=self.patience)
                return task, client.result_images(task)
            handle = client.submit(self.prompt)
            task = handle.wait(timeout=self.patience)
            return task, handle.result()
        raise AssertionError

    async def _call_async(self) -> tuple[Task, tuple[bytes, ...]]:
        hooks: Any = {"request": [self.on_request_async], "response": [self.on_response_async]}
        self.loop, self.task = asyncio.get_running_loop(), asyncio.current_task()
        if self.case.point == "before connect" and self.case.kind in {"cancel", "loop closed"}:
            self.loop.call_later(0.02, self.strike)
        async with contextlib.AsyncExitStack() as stack:
            own = None
            if self.has_hooks:
                own = await stack.enter_async_context(httpx2.AsyncClient(event_hooks=hooks, trust_env=False))
            client = await stack.enter_async_context(AsyncSeedreamClient(self.url, http_client=own, **self.options()))
            if self.case.form == "generate":
                task = await client.generate(self.prompt, timeout=self.patience)
                return task, await client.result_images(task)
            handle = await client.submit(self.prompt)
            task = await handle.wait(timeout=self.patience)
            return task, await handle.result()
        raise AssertionError

    def _run_async(self) -> tuple[Task, tuple[bytes, ...]]:
        if self.case.kind != "loop closed":
            return asyncio.run(self._call_async())
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # it reports that the task was destroyed
        try:
            return loop.run_until_complete(self._call_async())
        finally:
            self.task = None
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            self.loop = None


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background start with it ignored
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running(progress="polls:2", rate_limit="off", credits=1000) as server:
        yield server


@pytest.fixture(scope="module", name="gateway")
def make_gateway(server: MockServer) -> Iterator[Gateway]:
    gateway = Gateway(int(server.url.rpartition(":")[2]))
    yield gateway
    gateway.close()


def check(case: Case, server: MockServer, learned: list[Submission], outcome: object) -> str:
    """Compare what the program knows with what the server has, and return how the combination ended.

    Args:
        case: The combination.
        server: The server.
        learned: What the client told by ``on_submission``.
        outcome: The result, or the exception that ended the program, or ``None`` if it just ended.
    """
    tasks = {task["task_id"] for task in server.control("GET", "tasks")["tasks"]}
    balance = server.control("GET", "accounts")["accounts"][0]["balance"]
    assert len(tasks) <= 1, f"{case}: paid twice"
    assert balance == 1000 - PRICE * len(tasks), case
    if isinstance(outcome, tuple):
        task, images = outcome
        assert ({task.task_id}, len(images)) == (tasks, 1), case
        assert case.kind in {"reset", "timeout"}, f"{case}: only these can be recovered from"
        return "result"
    # The process or the loop is gone, so no exception reaches the program: what it was told before must be enough.
    told = submissions_of(outcome) if isinstance(outcome, BaseException) else ()
    if case.kind in {"loop closed", "process killed"}:
        told = tuple(learned[-1:])
    assert len(told) == 1 or (not told and not learned and not tasks), f"{case}: {told}"
    (known,) = told or (Submission(SubmissionState.NOT_CREATED),)
    assert {"not_created": not tasks, "in_doubt": True, "created": tasks == {known.task_id}}[known.state], (case, known)
    if isinstance(outcome, Exception) and known.state is SubmissionState.IN_DOUBT and case.kind != "loop closed":
        assert isinstance(outcome, SubmissionUnknownError), case
    if case.point == "before connect" and case.kind != "hook error":
        assert known.state is SubmissionState.NOT_CREATED, case
    if case.point in {"between polls", "download"}:
        assert known.state is SubmissionState.CREATED, case
    if case.kind == "Ctrl-C":
        assert isinstance(outcome, KeyboardInterrupt), case
    if case.kind == "cancel":
        assert isinstance(outcome, asyncio.CancelledError), case
    return str(known.state)


@contextlib.contextmanager
def address(case: Case, gateway: Gateway) -> Iterator[str]:
    if case.point != "before connect" or case.kind == "hook error":
        yield gateway.url
        return
    with refusing_address() if case.kind == "reset" else silent_address() as url:
        yield url


def run_here(case: Case, server: MockServer, gateway: Gateway) -> str:
    """Run a combination in this process."""
    server.reset()
    learned: list[Submission] = []
    with address(case, gateway) as url:
        program = Program(case, url, gateway.close_idle, learned.append)
        # After a whole answer the program goes on, so it interrupts itself: a signal from outside could come after it.
        is_own = case.kind == "hook error" or (case.point == "whole answer" and case.kind not in {"reset", "timeout"})
        gateway.fail_at("" if is_own else case.point, program.strike)
        outcome: object
        try:
            outcome = program.run()
        except BaseException as error:
            outcome = error
    happened = gateway.has_struck or program.has_failed or case[:2] == ("between polls", "timeout")
    assert happened or case.point == "before connect" or isinstance(outcome, SubmissionUnknownError), case
    del program
    gc.collect() if case.kind == "loop closed" else None
    gateway.settle()
    return check(case, server, learned, outcome)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no signals for threads")
@pytest.mark.filterwarnings(
    # socket.create_connection() of Python leaves its socket open if Ctrl-C interrupts it.
    "ignore:.*unclosed <socket.socket:ResourceWarning",
    "ignore:.*unclosed <socket.socket:pytest.PytestUnraisableExceptionWarning",
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning",
)
def test_no_charge_goes_untold_wherever_a_call_breaks_off(server: MockServer, gateway: Gateway) -> None:
    ends: dict[Case, str] = {}
    for case in POSSIBLE:
        if case.kind != "process killed":
            ends[case] = run_here(case, server, gateway)
    counts = {end: list(ends.values()).count(end) for end in sorted(set(ends.values()))}
    print(f"{len(ends)} combinations ran in this process: {counts}")
    for (mode, kind), reason in IMPOSSIBLE.items():
        print(f"{len(POINTS) * len(FORMS)} are impossible ({mode}, {kind}): {reason}")
    assert len(ends) == 7 * 6 * 2 * 2 - 28


def start_programs(folder: Path) -> None:
    """Run programs, each in a process of its own, as lines on standard input ask: the number of a case and the URL."""
    for line in sys.stdin:
        number, url = line.split()
        ready, go = os.pipe()
        child = os.fork()
        if not child:
            os.read(ready, 1)
            with (folder / number).open("a") as journal:

                def write_down(submission: Submission) -> None:
                    journal.write(json.dumps([submission.state, submission.task_id]) + "\n")
                    journal.flush()

                with contextlib.suppress(BaseException):
                    Program(COMBINATIONS[int(number)], url, lambda: None, write_down).run()
            os._exit(0)
        print(child, flush=True)
        sys.stdin.readline()
        os.write(go, b"!")
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def run_killed(case: Case, server: MockServer, gateway: Gateway, programs: subprocess.Popen[str], folder: Path) -> str:
    """Run a combination in a process that is killed."""
    server.reset()
    number = COMBINATIONS.index(case)
    assert programs.stdin
    assert programs.stdout
    with address(case, gateway) as url:
        print(number, url, file=programs.stdin, flush=True)
        child = int(programs.stdout.readline())
        gateway.fail_at(case.point, lambda _: os.kill(child, signal.SIGKILL))
        print("go", file=programs.stdin, flush=True)
        assert int(programs.stdout.readline()) == -signal.SIGKILL, case
    gateway.settle()
    journal = folder / str(number)
    lines = journal.read_text().splitlines() if journal.exists() else []
    learned = [Submission(SubmissionState(state), task_id) for state, task_id in map(json.loads, lines)]
    return check(case, server, learned, None)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_killed_process_has_written_down_what_it_may_have_to_pay(
    server: MockServer, gateway: Gateway, tmp_path: Path
) -> None:
    ends: dict[Case, str] = {}
    command = [sys.executable, __file__, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as programs:
        for case in POSSIBLE:
            if case.kind == "process killed":
                ends[case] = run_killed(case, server, gateway, programs, tmp_path)
    counts = {end: list(ends.values()).count(end) for end in sorted(set(ends.values()))}
    print(f"{len(ends)} combinations ran in processes that were killed: {counts}")
    assert len(ends) == 7 * 2 * 2


if __name__ == "__main__":
    start_programs(Path(sys.argv[1]))
