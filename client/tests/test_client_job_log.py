"""``JobLog``, ``generate_once()`` and ``submit_once()``: a key is paid for once, and the log is never guessed at."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seedbed_client import (
    AsyncSeedreamClient,
    AuthenticationError,
    ConfigurationError,
    GenerationFailedError,
    InsufficientCreditsError,
    JobConflictError,
    JobLog,
    JobLogError,
    LoggedJob,
    SeedreamClient,
    SubmissionInDoubtError,
    SubmissionState,
    SubmissionUnknownError,
    ValidationError,
    submissions_of,
)
from seedbed_mock import MockServer, running

MODEL = "seedream/4.5-text-to-image"


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running() as server:
        yield server


@pytest.fixture(name="client")
def make_client(server: MockServer) -> Iterator[SeedreamClient]:
    server.play(task_seconds=0, rate_limit="off", credits=10**6)
    with SeedreamClient(server.url, server.key) as client:
        yield client


@pytest.fixture(name="path")
def make_path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def count_of_tasks(server: MockServer) -> int:
    return len(server.control("GET", "tasks")["tasks"])


def test_a_key_has_one_task(server: MockServer, client: SeedreamClient, path: Path) -> None:
    task = client.generate_once("order 7", "a hill", log=JobLog(path))
    assert task.succeeded
    assert client.generate_once("order 7", "a hill", log=JobLog(path)) == task
    handle = client.submit_once("order 7", log=JobLog(path), model=MODEL, input={"prompt": "a hill"})
    assert handle.task_id == task.task_id

    async def run() -> tuple[str, str]:
        async with AsyncSeedreamClient(server.url, server.key) as other:
            again = await other.generate_once("order 7", "a hill", log=JobLog(path))
            new = await other.submit_once("order 8", log=JobLog(path), model=MODEL, input={"prompt": "a hill"})
            return again.task_id, new.task_id

    again, new = asyncio.run(run())
    assert again == task.task_id != new
    assert count_of_tasks(server) == 2
    assert [(job.key, job.status, job.task_id) for job in JobLog(path).jobs()] == [
        ("order 7", "submitted", task.task_id),
        ("order 8", "submitted", new),
    ]
    assert [each.name for each in path.parent.iterdir()] == ["jobs.db"]


def test_a_failed_task_is_still_that_of_its_key(server: MockServer, client: SeedreamClient, path: Path) -> None:
    server.add_faults("task.fail code=422 after=0")
    log = JobLog(path)
    found = []
    for _ in range(2):
        with pytest.raises(GenerationFailedError) as error:
            client.generate_once("k", "a hill", log=log)
        found.append(error.value.task_id)
    assert found[0] == found[1]
    server.clear_faults()
    log.forget("k")
    assert client.generate_once("k", "a hill", log=log).succeeded
    assert count_of_tasks(server) == 2


@pytest.mark.parametrize("change", ["prompt", "quality", "service", "model"])
def test_another_request_under_the_same_key_is_refused(
    server: MockServer, client: SeedreamClient, path: Path, change: str
) -> None:
    log = JobLog(path)
    client.generate_once("k", "a hill", log=log)
    with SeedreamClient(server.url.replace("127.0.0.1", "localhost"), server.key) as elsewhere:
        requests: dict[str, Callable[[], object]] = {
            "prompt": lambda: client.generate_once("k", "a lake", log=log),
            "quality": lambda: client.generate_once("k", "a hill", log=log, quality="high"),
            "model": lambda: client.submit_once("k", log=log, model="a/b", input={"prompt": "a hill"}, validate=False),
            "service": lambda: elsewhere.generate_once("k", "a hill", log=log),
        }
        with pytest.raises(JobConflictError, match="'k' belongs to another request"):
            requests[change]()
    assert count_of_tasks(server) == 1


def test_threads_with_one_key_pay_once(server: MockServer, client: SeedreamClient, path: Path) -> None:
    server.add_faults("delay seconds=0.1; op=createTask")

    def generate(_: int) -> str:
        return client.generate_once("k", "a hill", log=JobLog(path)).task_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(generate, range(8)))) == 1
    assert count_of_tasks(server) == 1


def test_tasks_of_an_event_loop_with_one_key_pay_once(server: MockServer, client: SeedreamClient, path: Path) -> None:
    assert client.base_url == server.url
    log = JobLog(path)

    async def run() -> set[str]:
        async with AsyncSeedreamClient(server.url, server.key) as other:
            tasks = await asyncio.gather(*(other.generate_once(f"k{n % 2}", "a hill", log=log) for n in range(10)))
            return {task.task_id for task in tasks}

    assert len(asyncio.run(run())) == 2
    assert count_of_tasks(server) == 2


PROGRAM = """
import sys
from seedbed_client import JobLog, SeedreamClient
url, key, path = sys.argv[1:4]
print("ready", flush=True)
sys.stdin.readline()
with SeedreamClient(url, key, timeout=60) as client:
    print(client.generate_once("k", "a hill", log=JobLog(path)).task_id)
"""


def start(server: MockServer, path: Path, program: str = PROGRAM) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, server.url, server.key, str(path)]
    # The measurement of coverage would find the disk full, too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_with_one_key_pay_once(server: MockServer, client: SeedreamClient, path: Path) -> None:
    assert client.base_url == server.url
    server.add_faults("delay seconds=0.3; op=createTask")
    processes = [start(server, path) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        outputs = list(pool.map(lambda process: process.communicate("go\n"), processes))
    assert [errors for _, errors in outputs] == ["", ""]
    assert len({output for output, _ in outputs}) == 1
    assert count_of_tasks(server) == 1


def test_a_submission_that_was_killed_is_in_doubt_until_it_is_settled(
    server: MockServer, client: SeedreamClient, path: Path
) -> None:
    server.add_faults("wire.hang; op=createTask")
    process = start(server, path)
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()
    while not (path.exists() and (job := JobLog(path).get("k")) and job.status == "submitting"):
        assert process.poll() is None
    with pytest.raises(JobLogError, match="another process"):
        JobLog(path).settle("k", "t1")
    with pytest.raises(JobLogError, match="another process is submitting the key 'k'"):
        client.generate_once("k", "a hill", log=JobLog(path), timeout=0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.clear_faults()
    before, log = count_of_tasks(server), JobLog(path)
    for _ in range(2):
        with pytest.raises(SubmissionInDoubtError, match="'k'") as error:
            client.generate_once("k", "a hill", log=log)
        assert (error.value.key, error.value.reason) == ("k", "an earlier submission was interrupted")
        assert isinstance(error.value, SubmissionUnknownError)
        assert [each.state for each in submissions_of(error.value)] == [SubmissionState.IN_DOUBT]
    assert count_of_tasks(server) == before
    found = client.create_task("a hill")
    log.settle("k", found)
    assert client.generate_once("k", "a hill", log=log).task_id == found
    with pytest.raises(ConfigurationError, match="nothing to settle"):
        log.settle("k", found)


def test_a_lost_response_is_in_doubt_and_can_be_submitted_again(
    server: MockServer, client: SeedreamClient, path: Path
) -> None:
    server.add_faults("wire.reset; op=createTask; times=1")
    log = JobLog(path)
    with pytest.raises(SubmissionInDoubtError, match="'k'"):
        client.generate_once("k", "a hill", log=log)
    with pytest.raises(SubmissionInDoubtError):
        client.generate_once("k", "a hill", log=log)
    log.forget("k")
    assert client.generate_once("k", "a hill", log=log).succeeded


@pytest.mark.parametrize(
    ("rule", "error"), [("402; times=1", InsufficientCreditsError), ("401; times=1", AuthenticationError)]
)
def test_a_refused_request_is_not_in_doubt(
    server: MockServer, client: SeedreamClient, path: Path, rule: str, error: type[Exception]
) -> None:
    server.add_faults(rule)
    log = JobLog(path)
    with pytest.raises(error):
        client.generate_once("k", "a hill", log=log)
    assert [job.status for job in log.jobs()] == ["new"]
    assert client.generate_once("k", "another hill", log=log).succeeded


def test_what_is_never_sent_leaves_no_doubt(server: MockServer, path: Path) -> None:
    log = JobLog(path)

    def refuse(_: object) -> None:
        raise RuntimeError("not now")

    with SeedreamClient(server.url, server.key, on_submission=refuse) as client, pytest.raises(RuntimeError):
        client.generate_once("k", "a hill", log=log)
    assert [job.status for job in log.jobs()] == ["new"]
    with SeedreamClient("http://127.0.0.1:1", max_retries=0) as client, pytest.raises(httpx2.ConnectError):
        client.generate_once("k2", "a hill", log=log)
    with SeedreamClient(server.url, server.key) as client:
        with pytest.raises(ValidationError):
            client.generate_once("k3", "x" * 5000, log=log)
        with pytest.raises(ConfigurationError, match="'k4' cannot be written"):
            client.generate_once("k4", "\ud800", log=log)
    with pytest.raises(ConfigurationError, match="'k6' cannot be written"):
        log.put(LoggedJob("k6", "http://x", "m", {"seed": 10**5000}))
    with pytest.raises(JobLogError, match="NUL"):
        JobLog("a\0b")
    assert {job.status for job in log.jobs()} == {"new"}


def test_the_intent_is_on_the_disk_before_the_request_is_sent(path: Path) -> None:
    seen: list[str] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        job = JobLog(path).get("k")
        seen.append(job.status if job else "missing")
        if len(seen) == 1:
            return httpx2.Response(200, json={"code": 429, "msg": "slow down"}, request=request)
        return httpx2.Response(200, json={"code": 200, "data": {"taskId": "t1"}}, request=request)

    def sleep(_: float) -> None:
        seen.append(JobLog(path).jobs()[0].status)

    client = SeedreamClient(transport=httpx2.MockTransport(respond), sleep=sleep)
    handle = client.submit_once("k", log=JobLog(path), model=MODEL, input={"prompt": "a hill"})
    assert (handle.task_id, seen) == ("t1", ["submitting", "new", "submitting"])


def test_the_log_may_be_a_path(server: MockServer, client: SeedreamClient, path: Path) -> None:
    tasks = {client.generate_once("k", "a hill", log=log).task_id for log in (path, str(path), JobLog(path))}
    assert (len(tasks), count_of_tasks(server)) == (1, 1)
    wrong: list[Any] = [None, "", 7, b"jobs.db", {}]
    for log in wrong:
        with pytest.raises(ConfigurationError, match="pass a JobLog"):
            client.generate_once("k", "a hill", log=log)


@pytest.mark.parametrize("key", ["", "x" * 1001, "\ud800", None, 7, b"k"])
def test_an_invalid_key_is_refused(client: SeedreamClient, path: Path, key: Any) -> None:
    with pytest.raises(ConfigurationError, match="invalid key"):
        client.generate_once(key, "a hill", log=JobLog(path))
    assert not path.exists()


@pytest.mark.parametrize("key", ["../../evil", "a/b", "x" * 1000, "丘", "a\0b", "CON", "%s"])
def test_any_text_is_a_key(client: SeedreamClient, path: Path, key: str) -> None:
    client.generate_once(key, "a hill", log=JobLog(path))
    assert [job.key for job in JobLog(path).jobs()] == [key]
    assert [each.name for each in path.parent.iterdir()] == ["jobs.db"]


def other_database(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE jobs (key, document)")


def newer_log(path: Path) -> None:
    JobLog(path).put(LoggedJob("k", "http://x", "m", {}))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA user_version = 99")


def truncated_log(path: Path) -> None:
    JobLog(path).put(*(LoggedJob(f"k{number}", "http://x", "m", {"prompt": "x" * 500}) for number in range(50)))
    path.write_bytes(path.read_bytes()[:-4096])


def damaged_log(path: Path) -> None:
    JobLog(path).put(*(LoggedJob(f"k{number}", "http://x", "m", {"prompt": "x" * 500}) for number in range(50)))
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\x55" * 4096
    path.write_bytes(content)


def damaged_job(path: Path) -> None:
    JobLog(path).put(LoggedJob("k", "http://x", "m", {}))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE jobs SET document = '{'")


@pytest.mark.parametrize(
    ("make", "words", "is_foreign"),
    [
        (lambda path: path.write_bytes(b"\xff\xe9" * 600), "not a progress file", True),
        (lambda path: path.write_text("{}\n"), "not a progress file", True),
        (other_database, "not a progress file", True),
        (newer_log, "newer version", True),
        (truncated_log, "malformed|damaged", False),
        (damaged_log, "malformed|damaged", False),
        (damaged_job, "damaged job", False),
        (Path.mkdir, "directory", False),
        (lambda path: path.symlink_to("nowhere/at/all"), "unable to open|no such directory", False),
        pytest.param(
            lambda path: os.mkfifo(path, 0o600),
            "not a regular file",
            True,
            marks=pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes on Windows"),
        ),
    ],
)
def test_a_file_that_is_no_sound_log_is_refused_and_kept(
    server: MockServer,
    client: SeedreamClient,
    path: Path,
    make: Callable[[Path], object],
    words: str,
    *,
    is_foreign: bool,
) -> None:
    make(path)
    content = path.read_bytes() if path.is_file() else b""
    with pytest.raises(JobLogError, match=words) as error:
        client.generate_once("k", "a hill", log=JobLog(path))
    assert (error.value.is_foreign, "\n" in str(error.value)) == (is_foreign, False)
    assert (path.read_bytes() if path.is_file() else b"") == content
    assert count_of_tasks(server) == 0


def test_a_missing_directory_is_refused(path: Path) -> None:
    with pytest.raises(JobLogError, match="no such directory"):
        JobLog(path / "nowhere" / "jobs.db")


def test_a_log_that_another_program_keeps_locked_is_reported(
    server: MockServer, client: SeedreamClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedbed_client._job_log._BUSY_TIMEOUT", 0.05)
    log = JobLog(path)
    log.put(LoggedJob("other", "http://x", "m", {}))
    database = sqlite3.connect(path, isolation_level=None)
    for statement in ("BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"):
        database.execute(statement)
        with pytest.raises(JobLogError, match="keeps it locked; try again later"):
            client.generate_once("k", "a hill", log=log)
        database.execute("ROLLBACK")
    database.close()
    assert count_of_tasks(server) == 0
    assert client.generate_once("k", "a hill", log=log).succeeded


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anything")
def test_a_read_only_log_is_reported(server: MockServer, client: SeedreamClient, path: Path) -> None:
    JobLog(path).put(LoggedJob("other", "http://x", "m", {}))
    path.chmod(0o444)
    with pytest.raises(JobLogError, match="make the file and its directory writable"):
        client.generate_once("k", "a hill", log=JobLog(path))
    assert count_of_tasks(server) == 0


FULL = """
import resource, sys
from seedbed_client import JobLog, JobLogError, SeedreamClient
url, key, path = sys.argv[1:4]
print("ready", flush=True)
moment = sys.stdin.readline().strip()
def fill(*_):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
log = JobLog(path)
if moment == "before":
    fill()
with SeedreamClient(url, key, on_submission=fill if moment == "after" else None) as client:
    try:
        client.generate_once("k", "a hill", log=log)
    except JobLogError as error:
        print(error.task_id, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of the size of files on Windows")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_full_disk_stops_the_request_or_names_the_task(
    server: MockServer, client: SeedreamClient, path: Path, moment: str
) -> None:
    JobLog(path).put(LoggedJob("other", "http://x", "m", {}))
    output, errors = start(server, path, FULL).communicate(f"{moment}\n")
    assert errors == ""
    task_id, _, sentence = output.partition(" ")
    assert "check the disk" in sentence
    if moment == "before":
        assert (task_id, count_of_tasks(server)) == ("None", 0)
        return
    (task,) = server.control("GET", "tasks")["tasks"]
    assert task_id == task["task_id"]
    # The log knows nothing of the task, and says so.
    with pytest.raises(SubmissionInDoubtError):
        client.generate_once("k", "a hill", log=JobLog(path))


def test_a_log_without_a_file_keeps_its_jobs_in_memory(server: MockServer, client: SeedreamClient) -> None:
    log = JobLog(None)
    threads = [
        threading.Thread(target=client.generate_once, args=(f"k{number % 4}", "a hill"), kwargs={"log": log})
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.generate_once("k0", "a hill", log=log).succeeded
    assert (len(log.jobs()), count_of_tasks(server)) == (4, 4)


def test_a_key_in_memory_is_submitted_once_at_a_time(server: MockServer, client: SeedreamClient) -> None:
    server.add_faults("delay seconds=0.1; op=createTask")
    log = JobLog(None)

    async def run() -> set[str]:
        async with AsyncSeedreamClient(client.base_url, server.key) as other:
            tasks = await asyncio.gather(*(other.generate_once("k", "a hill", log=log) for _ in range(4)))
            return {task.task_id for task in tasks}

    assert len(asyncio.run(run())) == count_of_tasks(server) == 1


@pytest.mark.parametrize("content", ["missing", "no bytes", "no tables"])
def test_an_empty_file_becomes_a_log(path: Path, content: str) -> None:
    """A process that was killed while it created the file leaves such a one."""
    if content == "no bytes":
        path.touch()
    elif content == "no tables":
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("VACUUM")
        assert path.stat().st_size
    log = JobLog(path)
    assert (log.jobs(), log.get("k"), log.output) == ([], None, None)
    jobs = [LoggedJob(f"k{number}", "http://x", "m", {}) for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda job: JobLog(path).put(job), jobs))
    assert {job.key for job in log.jobs()} == {job.key for job in jobs}
