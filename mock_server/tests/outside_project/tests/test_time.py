"""With freezegun, pytest-freezer and time-machine."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import httpx
import posters
import pytest
import time_machine
from freezegun import freeze_time
from seedbed_mock import MockServer

JPEG = b"\xff\xd8"


@pytest.fixture
def client(seedbed: MockServer) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    with httpx.Client(base_url=seedbed.url, headers=headers, trust_env=False) as client:
        yield client


@freeze_time("2019-05-01")
def test_a_poster_is_made_while_the_time_is_frozen(client: httpx.Client) -> None:
    assert dt.date.today().year == 2019  # noqa: DTZ011
    assert (posters.poster(client, posters.create(client, "a hill")) or b"").startswith(JPEG)


def test_a_poster_is_made_with_the_fixture(client: httpx.Client, freezer: Any) -> None:
    freezer.move_to("2082-01-01")
    assert posters.poster(client, posters.create(client, "a hill"))


@time_machine.travel("2082-01-01", tick=False)
def test_a_poster_is_made_in_the_future(client: httpx.Client) -> None:
    assert posters.poster(client, posters.create(client, "a hill"))


@pytest.mark.seedbed(clock="follow", task_seconds=60)
def test_the_server_follows_the_frozen_time(seedbed: MockServer, client: httpx.Client) -> None:
    with freeze_time("2030-01-01") as frozen:
        task_id = posters.create(client, "a hill")
        assert posters.poster(client, task_id) is None
        frozen.tick(60)
        assert posters.poster(client, task_id)
        assert seedbed.task(task_id)["record"]["createTime"] == 1_893_456_000_000


@pytest.mark.seedbed(clock="manual", task_seconds=60)
def test_the_clock_is_advanced_while_the_time_is_frozen(seedbed: MockServer, client: httpx.Client) -> None:
    with freeze_time("2030-01-01"):
        task_id = posters.create(client, "a hill")
        seedbed.advance(60)
        assert posters.poster(client, task_id)
