"""What exceptions say of a task, in programs that do more than call and catch."""

import asyncio
import copy
import dataclasses
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from seedbed_client import (
    AsyncSeedreamClient,
    ConfigurationError,
    SeedreamClient,
    Submission,
    SubmissionState,
    SubmissionUnknownError,
    TaskHandle,
    submissions_of,
)
from seedbed_mock import MockServer, running

NOT_CREATED, IN_DOUBT, CREATED = SubmissionState.NOT_CREATED, SubmissionState.IN_DOUBT, SubmissionState.CREATED


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running(progress="polls:2", rate_limit="off", credits=10**6) as server:
        yield server


class Service:
    """A service in this process, which creates tasks and counts them."""

    def __init__(self) -> None:
        self.created = 0

    def respond(self, _: httpx2.Request) -> httpx2.Response:
        self.created += 1
        return httpx2.Response(200, json={"code": 200, "msg": "", "data": {"taskId": f"t{self.created}"}})

    def client(self, **options: Any) -> SeedreamClient:
        return SeedreamClient(transport=httpx2.MockTransport(self.respond), max_retries=0, **options)


def interrupted_at(number: int, call: Callable[[], object]) -> tuple[bool, object]:
    """Make a call with Ctrl-C as its nth function begins, where Python delivers it.

    Returns:
        Whether the call began so many functions, and its result or the exception.
    """
    begun = 0

    def interrupt(_: object, event: str, __: object) -> None:
        nonlocal begun
        begun += event == "call"
        if event == "call" and begun == number:
            raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        outcome: object = call()
    except BaseException as error:
        outcome = error
    finally:
        sys.setprofile(None)
    return begun >= number, outcome


# Python drops an exception that is raised while a generator is finalized, and the call goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_moment_of_an_interrupt_loses_a_task() -> None:
    service, number, lost, interrupted = Service(), 1, [], 0
    service.client().create_task("a hill")  # imports what the first call needs
    while True:
        before = service.created
        was_reached, outcome = interrupted_at(number, lambda: service.client().create_task("a hill"))
        if not was_reached:
            break
        if isinstance(outcome, BaseException):
            interrupted += 1
            if service.created > before and not any(each.may_be_charged for each in submissions_of(outcome)):
                lost.append(number)
        number += 5
    assert lost == []
    assert interrupted > 50


def raised(call: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as error:  # noqa: PT011 (the caller looks at it)
        call()
    return error.value


@pytest.mark.parametrize("cls", [StopIteration, StopAsyncIteration, RuntimeError, MemoryError, TimeoutError, Warning])
def test_an_exception_of_a_transport_leaves_a_task_in_doubt(cls: type[Exception]) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise cls(request.method)

    async def fail_async(request: httpx2.Request) -> httpx2.Response:
        return fail(request)

    async def create() -> str:
        async with AsyncSeedreamClient(transport=httpx2.MockTransport(fail_async)) as client:
            return await client.create_task("a hill")

    client = SeedreamClient(transport=httpx2.MockTransport(fail))
    for call in (lambda: client.create_task("a hill"), lambda: asyncio.run(create())):
        error = raised(call)
        assert isinstance(error, SubmissionUnknownError)
        assert [each.state for each in submissions_of(error)] == [IN_DOUBT]


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """An error that refuses attributes."""

    reason: str = "frozen"


class OddError(Exception):
    """An error with attributes of its own."""

    __notes__ = ("not a list",)  # type: ignore[assignment]

    @property
    def task_id(self) -> int:
        return 7

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error", [FrozenError(), OddError(), SystemExit(3), GeneratorExit(), BaseExceptionGroup("", [KeyboardInterrupt()])]
)
def test_any_exception_of_a_hook_names_the_task(error: BaseException, server: MockServer) -> None:
    def fail(_: object) -> None:
        raise error

    with SeedreamClient(server.url, server.key) as client:
        caught = raised(lambda: client.generate("a hill", on_update=fail))
    assert caught is error
    (submission,) = submissions_of(caught)
    assert server.task(submission.task_id or "")["task_id"] == submission.task_id


def test_submissions_survive_copies_and_pickles() -> None:
    client = SeedreamClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(502)), max_retries=0)
    error = raised(lambda: client.create_task("a hill"))
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 (own data)
        assert submissions_of(twin) == submissions_of(error)
    assert submissions_of(error)[0].input["prompt"] == "a hill"
    assert submissions_of(None) == ()


def test_a_timeout_around_calls_names_their_tasks(server: MockServer) -> None:
    async def create() -> None:
        async with AsyncSeedreamClient(server.url, server.key) as client, asyncio.timeout(0.5):
            await client.generate("a hill [[fault: task.stuck]]")

    error = raised(lambda: asyncio.run(create()))
    assert isinstance(error, TimeoutError)
    assert [each.state for each in submissions_of(error)] == [CREATED]


def test_a_group_of_exceptions_names_all_tasks(server: MockServer) -> None:
    async def create() -> None:
        async with AsyncSeedreamClient(server.url, server.key) as client, asyncio.TaskGroup() as group:
            barrier = asyncio.Barrier(3)

            async def fail() -> None:
                handle = await client.submit("a hill")
                server.add_faults("401; op=recordInfo")
                await barrier.wait()
                await handle.wait()

            for _ in range(3):
                group.create_task(fail())

    try:
        error = raised(lambda: asyncio.run(create()))
    finally:
        server.clear_faults()
    assert isinstance(error, ExceptionGroup)
    assert {each.state for each in submissions_of(error)} == {CREATED}
    assert len(submissions_of(error)) == len(error.exceptions)


def test_a_closed_client_leaves_nothing_in_doubt() -> None:
    for client in (SeedreamClient(), Service().client()):
        client.close()
        error = raised(lambda client=client: client.create_task("a hill"))  # type: ignore[misc]
        assert isinstance(error, RuntimeError)
        assert [each.state for each in submissions_of(error)] == [NOT_CREATED]


class UnclosableTransport(httpx2.MockTransport):
    """A transport that cannot be closed."""

    def close(self) -> None:
        raise OSError("not closed")

    async def aclose(self) -> None:
        self.close()


def test_an_error_while_closing_does_not_replace_a_result(caplog: pytest.LogCaptureFixture) -> None:
    def blocking() -> str:
        with SeedreamClient(transport=UnclosableTransport(Service().respond)) as client:
            return client.create_task("a hill")

    async def asynchronous() -> str:
        async with AsyncSeedreamClient(transport=UnclosableTransport(Service().respond)) as client:
            return await client.create_task("a hill")

    assert (blocking(), asyncio.run(asynchronous())) == ("t1", "t1")
    assert caplog.text.count("not closed") == 2
    client = SeedreamClient(transport=UnclosableTransport(Service().respond))
    client.create_task("a hill")
    with pytest.raises(OSError, match="not closed"):
        client.close()


def test_a_program_that_cannot_write_down_a_task_does_not_send_it() -> None:
    def fail(_: Submission) -> None:
        raise OSError(28, "No space left on device")

    service = Service()
    error = raised(lambda: service.client(on_submission=fail).create_task("a hill"))
    assert isinstance(error, OSError)
    assert (service.created, submissions_of(error)[0].state) == (0, NOT_CREATED)


def test_a_program_learns_of_each_change() -> None:
    seen: list[Submission] = []
    replies = [httpx2.Response(200, json={"code": 429, "msg": "", "data": None})]
    service = Service()
    transport = httpx2.MockTransport(lambda request: replies.pop() if replies else service.respond(request))
    SeedreamClient(transport=transport, sleep=lambda _: None, on_submission=seen.append).create_task("a hill")
    assert [(each.state, each.task_id) for each in seen] == [
        (IN_DOUBT, None),
        (NOT_CREATED, None),
        (IN_DOUBT, None),
        (CREATED, "t1"),
    ]
    assert {each.input["prompt"] for each in seen} == {"a hill"}


def test_a_generator_that_is_left_early_costs_nothing_more(server: MockServer) -> None:
    async def leave_early() -> None:
        async with AsyncSeedreamClient(server.url, server.key) as client:
            states = (await client.submit("a lake")).iter_states()
            assert (await anext(states)).task_id
            await states.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave_early())
    with SeedreamClient(server.url, server.key) as client:
        for task in client.submit("a hill").iter_states():
            assert task.task_id
            break


def test_a_handle_is_the_task_in_every_call(server: MockServer) -> None:
    with SeedreamClient(server.url, server.key, sleep=lambda _: None) as client:
        handle = client.submit("a hill")
        assert isinstance(handle, TaskHandle)
        assert client.get_task(handle).task_id == handle.task_id == str(handle)
        assert repr(handle) == f"TaskHandle({handle.task_id!r})"
        assert client.wait(handle) == handle.wait()
        assert client.result_images(handle) == handle.result()
        assert [task.state for task in client.iter_states(handle)] == ["success"]


@pytest.mark.parametrize("arguments", [{}, {"model": "a/b"}, {"input": {}}])
def test_submit_refuses_arguments_that_do_not_fit_together(arguments: dict[str, Any]) -> None:
    service = Service()
    with pytest.raises(ConfigurationError, match="either a prompt"):
        service.client().submit(**arguments)
    with pytest.raises(ConfigurationError, match="either a prompt"):
        service.client().submit("a hill", model="a/b", input={})  # type: ignore[call-overload]
    assert service.created == 0
