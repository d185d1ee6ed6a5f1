"""The clients against a running mock server, whose clock advances instead of sleeping."""

import asyncio
import inspect
import io
import itertools
from collections.abc import Iterator

import httpx2
import pytest
import seedbed_client
from PIL import Image
from seedbed_client import (
    ERRORS,
    ApiError,
    AsyncSeedreamClient,
    AuthenticationError,
    InsufficientCreditsError,
    NotFoundError,
    RateLimitError,
    SeedreamClient,
    SubmissionUnknownError,
    Task,
    ValidationError,
    WaitTimeoutError,
)
from seedbed_mock import ManualClock, create_app, running
from seedbed_mock.settings import HttpStatus
from seedbed_schemas import default_contract

CONTRACT = default_contract()
CODES = {code.number: code for code in CONTRACT.codes}
SUCCESS = CONTRACT.code_named("success").number


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def client(clock: ManualClock) -> Iterator[SeedreamClient]:
    with (
        running(clock=clock, task_seconds=60, rate_limit="off") as server,
        SeedreamClient(server.url, server.key, sleep=clock.advance, clock=clock.now) as client,
    ):
        yield client


def test_generate_waits_for_the_task_and_reports_its_states(client: SeedreamClient) -> None:
    states: list[str] = []
    task = client.generate(
        "a hill", aspect_ratio="3:2", quality="high", on_update=lambda task: states.append(task.state)
    )
    assert task.succeeded
    assert list(dict.fromkeys(states)) == ["waiting", "queuing", "generating", "success"]
    with Image.open(io.BytesIO(client.download(task.result_urls[0]))) as image:
        assert image.size == (4992, 3328)


def test_the_async_client_works_over_asgi_without_a_socket(clock: ManualClock) -> None:
    async def advance(seconds: float) -> None:
        clock.advance(seconds)

    async def run() -> None:
        transport = httpx2.ASGITransport(create_app(task_seconds=60, clock=clock))
        async with AsyncSeedreamClient(transport=transport, sleep=advance, clock=clock.now) as client:
            states: list[str] = []
            task = await client.generate("a hill", on_update=lambda task: states.append(task.state))
            assert list(dict.fromkeys(states)) == ["waiting", "queuing", "generating", "success"]
            assert (await client.get_task(task.task_id)) == task
            assert (await client.download(task.result_urls[0])).startswith(b"\xff\xd8")
            assert await client.credits() == 73.5
            with pytest.raises(NotFoundError):
                await client.get_task("task_seedream_0")

    asyncio.run(run())


def test_omitted_options_have_their_documented_defaults(client: SeedreamClient) -> None:
    task = client.get_task(client.create_task("a hill"))
    assert task.input == {"prompt": "a hill", "aspect_ratio": "1:1", "quality": "basic"}


def test_a_callback_url_is_sent(client: SeedreamClient) -> None:
    task = client.get_task(client.create_task("a hill", callback_url="http://127.0.0.1:9/done"))
    assert "http://127.0.0.1:9/done" in task.record["param"]


def test_credits_keep_their_fraction(client: SeedreamClient) -> None:
    client.create_task("a hill")
    assert client.credits() == 73.5


def test_a_wait_timeout_names_the_task_which_can_be_waited_for_again(
    client: SeedreamClient, clock: ManualClock
) -> None:
    task_id, began = client.create_task("a hill"), clock.now()
    with pytest.raises(WaitTimeoutError, match=task_id) as error:
        client.wait(task_id, timeout=33)
    assert error.value.task.task_id == task_id
    assert clock.now() - began == 33
    assert client.wait(error.value.task).succeeded


def test_pauses_between_fetches_grow_with_the_wait(clock: ManualClock) -> None:
    fetches: list[float] = []
    with running(clock=clock, task_seconds=600) as server:
        client = SeedreamClient(server.url, server.key, sleep=clock.advance, clock=clock.now)
        began = clock.now()
        client.generate("a hill", on_update=lambda _: fetches.append(clock.now() - began))
        client.close()
    pauses = [after - before for before, after in itertools.pairwise(fetches)]
    assert 2 <= pauses[0] <= 3
    assert all(5 <= pause <= 10 for pause in pauses[15:16])
    assert 15 <= max(pauses) <= 30


def test_each_documented_code_has_its_own_class() -> None:
    assert set(ERRORS) == set(CODES) - {SUCCESS}
    assert len(set(ERRORS.values())) == len(ERRORS)


@pytest.mark.parametrize("code", ERRORS)
def test_each_documented_code_has_a_public_class(code: int) -> None:
    cls = ERRORS[code]
    assert cls.__name__.endswith("Error")
    assert [number for number, other in ERRORS.items() if other is cls] == [code]
    assert getattr(seedbed_client, cls.__name__) is cls
    assert cls.__doc__


@pytest.mark.parametrize("http_status", ["envelope", "mirror"])
@pytest.mark.parametrize("code", ERRORS)
def test_each_code_raises_its_class(code: int, http_status: HttpStatus) -> None:
    with (
        running(http_status=http_status) as server,
        httpx2.Client(headers={"X-Seedbed-Fault": str(code)}, trust_env=False) as http,
        SeedreamClient(server.url, server.key, http_client=http, max_retries=0) as client,
    ):
        for call in (lambda: client.create_task("a hill"), lambda: client.get_task("x"), client.credits):
            with pytest.raises((ERRORS[code], SubmissionUnknownError)) as raised:
                call()
            error = raised.value.__cause__ if isinstance(raised.value, SubmissionUnknownError) else raised.value
            assert isinstance(error, ApiError)
            assert type(error) is ERRORS[code]
            assert error.code == code
            assert error.message in str(raised.value)


def test_errors_that_users_cause_raise_their_class() -> None:
    with running(credits=14, rate_limit="2/3600") as server:
        with SeedreamClient(server.url, "wrong") as other, pytest.raises(AuthenticationError):
            other.credits()
        with SeedreamClient(server.url, server.key, max_retries=0) as client:
            with pytest.raises(ValidationError, match="aspect_ratio"):
                client.create_task("a hill", aspect_ratio="5:4")  # type: ignore[arg-type]
            client.create_task("a hill")
            client.create_task("a hill")
            with pytest.raises(RateLimitError):
                client.create_task("a hill")


def test_insufficient_credits_name_the_price_and_the_balance() -> None:
    with (
        running(credits=6.4) as server,
        SeedreamClient(server.url, server.key) as client,
        pytest.raises(InsufficientCreditsError, match=r"costs 6\.5, the balance is 6\.4"),
    ):
        client.create_task("a hill")


def test_both_clients_have_the_same_methods() -> None:
    def methods(cls: type) -> dict[str, list[str]]:
        public = {name: member for name, member in vars(cls).items() if name[0] != "_" and callable(member)}
        return {name: list(inspect.signature(getattr(cls, name)).parameters) for name in public}

    assert methods(SeedreamClient) == methods(AsyncSeedreamClient)


def test_two_fetches_of_a_task_are_equal(client: SeedreamClient) -> None:
    task_id = client.create_task("a hill")
    assert isinstance(client.get_task(task_id), Task)
    assert client.get_task(task_id) == client.get_task(task_id)
