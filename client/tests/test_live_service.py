"""The same tests against the mock server and, given a key and credits to spend, against the paid service."""

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
        pytest.skip(f"set {KEY} and {SPEND} to run this test against the paid service")
    if float(spend) < PRICE:
        pytest.skip(f"{SPEND} is less than the {PRICE} credits that an image costs")
    return SeedreamClient.live(key)


@pytest.fixture(params=["mock", "live"], name="client")
def make_client(request: pytest.FixtureRequest, seedbed: MockServer) -> Iterator[SeedreamClient]:
    with live() if request.param == "live" else SeedreamClient(seedbed.url, seedbed.key) as client:
        yield client


def test_an_image_is_generated_charged_and_downloaded(client: SeedreamClient) -> None:
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


def test_an_unknown_task_is_not_found(client: SeedreamClient) -> None:
    with pytest.raises(NotFoundError):
        client.get_task("task_seedream_0000000000000")


@pytest.mark.parametrize("target", ["mock", "live"])
def test_a_wrong_key_is_refused(target: str, seedbed: MockServer) -> None:
    if target == "live":
        live().close()
    other = SeedreamClient.live("nobody") if target == "live" else SeedreamClient(seedbed.url, "nobody")
    with other, pytest.raises(AuthenticationError):
        other.credits()
