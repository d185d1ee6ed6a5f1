"""The same flow against the fake, always, and against the paid service, where a key and a sum to spend are given."""

import os
from collections.abc import Iterator

import pytest
from seedbed_client import AuthenticationError, NotFoundError, SeedreamClient
from seedbed_mock import MockServer
from seedbed_schemas.profile import default_profile

KEY, SPEND = "SEEDBED_LIVE_KEY", "SEEDBED_LIVE_SPEND"
PRICE = float(default_profile().credits)


def live() -> SeedreamClient:
    key, spend = os.environ.get(KEY, ""), os.environ.get(SPEND, "")
    if not key or not spend:
        pytest.skip(f"{KEY} and {SPEND} are not both set: without a key and credits to spend, the fake alone is asked")
    if float(spend) < PRICE:
        pytest.skip(f"{SPEND} is less than the {PRICE} credits that an image costs")
    return SeedreamClient.live(key)


@pytest.fixture(params=["fake", "live"], name="client")
def make_client(request: pytest.FixtureRequest, seedbed: MockServer) -> Iterator[SeedreamClient]:
    with live() if request.param == "live" else SeedreamClient(seedbed.url, seedbed.key) as client:
        yield client


def test_an_image_is_made_paid_and_fetched(client: SeedreamClient) -> None:
    before = client.credits()
    task = client.generate("A hill at dawn")
    (image,) = client.result_images(task)
    assert len(image) > 10_000
    assert client.credits() <= before - PRICE
    assert task.create_time
    assert task.complete_time
    assert task.create_time <= task.complete_time
    assert client.download(client.download_url(task.result_urls[0])) == image
    assert client.get_task(task.task_id) == task


def test_a_task_that_is_not_there_is_not_found(client: SeedreamClient) -> None:
    with pytest.raises(NotFoundError):
        client.get_task("task_seedream_0000000000000")


@pytest.mark.parametrize("target", ["fake", "live"])
def test_a_stranger_is_turned_away(target: str, seedbed: MockServer) -> None:
    if target == "live":
        live().close()
    stranger = SeedreamClient.live("nobody") if target == "live" else SeedreamClient(seedbed.url, "nobody")
    with stranger, pytest.raises(AuthenticationError):
        stranger.credits()
