"""Fixtures of wider scopes, and state that is kept between tests."""

from collections.abc import Callable, Iterator

import httpx
import posters
import pytest
from seedbed_mock import MockServer

pytestmark = pytest.mark.seedbed(keep_state=True, credits=13)


@pytest.fixture(scope="module")
def rich(seedbed_factory: Callable[..., MockServer]) -> Iterator[MockServer]:
    with seedbed_factory(credits=1000) as server:
        yield server


def credits_of(server: MockServer) -> float:
    headers = {"Authorization": f"Bearer {server.key}"}
    return float(httpx.get(f"{server.url}/api/v1/chat/credit", headers=headers, trust_env=False).json()["data"])


def test_a_poster_is_paid(seedbed: MockServer, rich: MockServer) -> None:
    posters.create_with_requests(seedbed.url, seedbed.key, "a hill")
    posters.create_with_requests(rich.url, rich.key, "a hill")
    assert (credits_of(seedbed), credits_of(rich)) == (6.5, 993.5)


def test_the_next_test_sees_it(seedbed: MockServer, rich: MockServer) -> None:
    assert (credits_of(seedbed), credits_of(rich)) == (6.5, 993.5)
    rich.reset()
    assert credits_of(rich) == 1000
