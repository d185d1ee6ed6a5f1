"""The public interface of the client: its names, its imports, its cost and its types."""

import inspect
import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import seedbed_client
from seedbed_client import AsyncSeedreamClient, SeedreamClient, TaskState
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.profile import default_profile

NAMES = [
    "ApiError",
    "AspectRatio",
    "AsyncSeedreamClient",
    "AsyncTaskHandle",
    "AuthenticationError",
    "Callback",
    "CallbackError",
    "CallbackReceiver",
    "ConfigurationError",
    "DownloadError",
    "ERRORS",
    "FeatureDisabledError",
    "GenerationFailedError",
    "InsufficientCreditsError",
    "InvalidCallbackError",
    "InvalidResponseError",
    "JobConflictError",
    "JobLog",
    "JobLogError",
    "LoggedJob",
    "MaintenanceError",
    "NotFoundError",
    "PollingSchedule",
    "PollingStep",
    "Quality",
    "RateLimitError",
    "SeedreamClient",
    "SeedreamError",
    "ServerError",
    "SignatureMismatchError",
    "StaleCallbackError",
    "Submission",
    "SubmissionState",
    "SubmissionInDoubtError",
    "SubmissionUnknownError",
    "Task",
    "TaskHandle",
    "TaskState",
    "ValidationError",
    "WaitTimeoutError",
    "parse_callback",
    "submissions_of",
    "verify_callback",
]
METHODS = [
    "base_url",
    "close",
    "create_task",
    "credits",
    "download",
    "download_url",
    "generate",
    "generate_once",
    "get_task",
    "iter_states",
    "live",
    "result_images",
    "submit",
    "submit_once",
    "wait",
    "wait_for_callback",
]

MODULES = """
import json, sys
import httpx2
before = set(sys.modules)
import seedbed_client
print(json.dumps(sorted(set(sys.modules) - before)))
"""
NOT_FOR_CLIENTS = [
    "starlette",
    "uvicorn",
    "jsonschema",
    "rich",
    "cyclopts",
    "PIL",
    "asyncio",
    "tenacity",
    "seedbed_mock",
]


def test_the_public_names_are_stable() -> None:
    assert sorted(seedbed_client.__all__) == sorted(NAMES)
    assert all(getattr(seedbed_client, name) is not None for name in NAMES)
    with pytest.raises(AttributeError):
        _ = seedbed_client.nothing


@pytest.mark.parametrize("cls", [SeedreamClient, AsyncSeedreamClient])
def test_the_public_methods_are_stable(cls: type) -> None:
    assert sorted(name for name in dir(cls) if not name.startswith("_")) == METHODS


@pytest.mark.parametrize("method", ["create_task", "generate"])
def test_the_arguments_and_defaults_are_those_of_the_contract(method: str) -> None:
    fields = default_contract().input_fields
    parameters = inspect.signature(getattr(SeedreamClient, method)).parameters
    assert set(fields) <= set(parameters)
    for name, schema in fields.items():
        assert parameters[name].default == schema.get("default", inspect.Parameter.empty)
    assert default_profile().caption == list(parameters)[1]


def test_the_states_are_those_of_the_contract_and_unknown() -> None:
    states = job_api().states
    assert [*states.pending, states.success, states.failure, "unknown"] == list(TaskState)
    assert TaskState("dreaming") is TaskState.UNKNOWN


def test_importing_the_client_loads_few_modules() -> None:
    loaded = json.loads(subprocess.run([sys.executable, "-c", MODULES], capture_output=True, check=True).stdout)
    assert not {name.partition(".")[0] for name in loaded} & set(NOT_FOR_CLIENTS)
    assert len(loaded) < 60


def test_a_client_for_http_loads_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[object] = []
    load = ssl.SSLContext.load_default_certs

    def record(context: ssl.SSLContext, *arguments: ssl.Purpose) -> None:
        contexts.append(context)
        load(context, *arguments)

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", record)
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda context, *_, **__: contexts.append(context))
    with SeedreamClient("http://127.0.0.1:9") as client:
        plain = client._runner._http.for_url(client.base_url)
        assert contexts == []
        assert client._runner._http.for_url("https://cdn.example/a.jpg") is not plain
        assert contexts


USER_PROGRAM = """
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import assert_type

from seedbed_client import (
    AspectRatio, AsyncSeedreamClient, AsyncTaskHandle, Callback, CallbackReceiver, GenerationFailedError,
    PollingSchedule,
    PollingStep, SeedreamClient, SeedreamError, Submission, SubmissionState, Task, TaskHandle, TaskState,
    WaitTimeoutError, parse_callback, submissions_of, verify_callback,
)


def blocking(client: SeedreamClient, receiver: CallbackReceiver) -> None:
    assert_type(client.create_task("a hill", aspect_ratio="16:9", quality="high", callback_url=None), str)
    assert_type(client.submit(model="a/b", input={"n": 1}, validate=False), TaskHandle)
    handle = client.submit("a hill", quality="high")
    assert_type(handle, TaskHandle)
    assert_type(handle.task_id, str)
    assert_type(handle.wait(timeout=1), Task)
    assert_type(handle.result(), tuple[bytes, ...])
    assert_type(handle.iter_states(), Iterator[Task])
    assert_type(client.wait(handle), Task)
    task = client.generate("a hill", timeout=60, on_update=print, extra_headers={"X-A": "b"})
    assert_type(task, Task)
    assert_type(client.get_task("t"), Task)
    assert_type(client.wait(task), Task)
    assert_type(client.wait_for_callback("t", receiver), Task)
    assert_type(client.iter_states("t"), Iterator[Task])
    assert_type(client.download("u"), bytes)
    assert_type(client.download("u", to="a.jpg"), Path)
    assert_type(client.result_images(task), tuple[bytes, ...])
    assert_type(client.download_url("u"), str)
    assert_type(client.credits(), float)
    assert_type(task.state, TaskState)
    assert_type(task.create_time, datetime | None)
    assert_type(task.cost_time, timedelta | None)
    assert_type(task.result_urls, tuple[str, ...])


async def asynchronous(receiver: CallbackReceiver) -> None:
    async with AsyncSeedreamClient(max_retries=1, polling=PollingSchedule(steps=(PollingStep(0, 1, 2),))) as client:
        assert_type(await client.create_task("a hill"), str)
        assert_type(await client.submit("a hill"), AsyncTaskHandle)
        assert_type(await client.wait(await client.submit("a hill")), Task)
        assert_type(await client.generate("a hill"), Task)
        assert_type(await client.wait_for_callback("t", receiver), Task)
        assert_type(client.iter_states("t"), AsyncIterator[Task])
        assert_type(await client.download("u"), bytes)
        assert_type(await client.download("u", to=Path("a.jpg")), Path)
        assert_type(await client.result_images("t"), tuple[bytes, ...])
        assert_type(await client.credits(), float)


def errors(failed: GenerationFailedError, late: WaitTimeoutError) -> None:
    assert_type(failed.fail_code, str)
    assert_type(failed.task, Task | None)
    assert_type(late.task, Task)
    assert_type(late.task_id, str)
    assert_type(SeedreamError().task_id, str | None)
    assert_type(submissions_of(failed), tuple[Submission, ...])
    assert_type(submissions_of(failed)[0].state, SubmissionState)
    assert_type(parse_callback(b""), Callback)
    assert_type(verify_callback({}, b"", "key", tolerance=60), Callback)


SeedreamClient().create_task(3)  # WRONG
SeedreamClient().create_task("a hill", "16:9")  # WRONG
SeedreamClient().generate("a hill", aspect="16:9")  # WRONG
SeedreamClient().submit("a hill", model="a/b")  # WRONG
SeedreamClient().generate("a hill", aspect_ratio="5:4")  # WRONG
SeedreamClient().create_task("a hill", quality="best")  # WRONG
SeedreamClient().submit(model="a/b", input={"aspect_ratio": "5:4"})
RATIO: AspectRatio = "21:9"
OTHER_RATIO: AspectRatio = "5:4"  # WRONG
SeedreamClient().generate("a hill", aspect_ratio=RATIO, quality="basic")
"""


@pytest.mark.parametrize(
    "checker",
    [
        pytest.param(["mypy", "--strict"], id="mypy", marks=pytest.mark.exhaustive),
        pytest.param(["pyright"], id="pyright", marks=pytest.mark.slow),
    ],
)
def test_type_checkers_infer_the_types_of_the_client(tmp_path: Path, checker: list[str]) -> None:
    program = tmp_path / "user.py"
    program.write_text(USER_PROGRAM)
    options = ["--pythonpath", sys.executable] if checker[0] == "pyright" else ["--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", *checker, *options, str(program)]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    lines = USER_PROGRAM.splitlines()
    wrong = {number for number, line in enumerate(lines, start=1) if line.endswith("# WRONG")}
    reported = [line for line in output.splitlines() if "error" in line and "user.py:" in line]
    assert {int(line.split("user.py:")[1].split(":")[0]) for line in reported} == wrong, output
