"""With respx and vcrpy."""

import asyncio
from pathlib import Path

import httpx
import posters
import pytest
import respx
import vcr
from seedbed_mock import MockServer


def headers(seedbed: MockServer, fault: str = "") -> dict[str, str]:
    return {"Authorization": f"Bearer {seedbed.key}"} | ({"X-Seedbed-Fault": fault} if fault else {})


def test_a_fixed_address_is_routed(seedbed: MockServer) -> None:
    with seedbed.respx_router(), httpx.Client(base_url=posters.SERVICE, headers=headers(seedbed)) as client:
        assert posters.poster(client, posters.create(client, "a hill"))
    seedbed.assert_called("createTask", times=1, prompt="a hill", aspect_ratio="2:3")


@pytest.mark.parametrize(
    ("fault", "error"),
    [("wire.reset", httpx.ReadError), ("wire.nothing", httpx.RemoteProtocolError), ("wire.hang", httpx.ReadTimeout)],
)
def test_a_routed_fault_is_that_of_the_library(seedbed: MockServer, fault: str, error: type[Exception]) -> None:
    async def create() -> str:
        async with httpx.AsyncClient(base_url=posters.SERVICE, headers=headers(seedbed, fault), timeout=0.2) as client:
            return await posters.create_async(client, "a hill")

    with seedbed.respx_router():
        with pytest.raises(error):
            asyncio.run(create())
        with (
            httpx.Client(base_url=posters.SERVICE, headers=headers(seedbed, fault), timeout=0.2) as client,
            pytest.raises(error),
        ):
            posters.create(client, "a hill")


def test_other_routes_stand_beside_the_router(seedbed: MockServer, respx_mock: respx.MockRouter) -> None:
    respx_mock.get("https://weather.test/").respond(json={"sky": "blue"})
    with seedbed.respx_router(), httpx.Client(base_url=posters.SERVICE, headers=headers(seedbed)) as client:
        assert client.get("https://weather.test/").json() == {"sky": "blue"}
        assert posters.create(client, "a blue hill")


def test_a_cassette_records_the_program_and_not_the_fixture(seedbed: MockServer, tmp_path: Path) -> None:
    cassette = str(tmp_path / "create.yaml")
    with vcr.use_cassette(cassette) as recorded:
        seedbed.add_faults("task.fail")
        task_id = posters.create_with_requests(seedbed.url, seedbed.key, "a hill")
        assert seedbed.task(task_id)["state"] == "fail"
        assert len(recorded) == 1
    with vcr.use_cassette(cassette, record_mode="none"):
        assert posters.create_with_requests(seedbed.url, seedbed.key, "a hill") == task_id
        seedbed.assert_called("createTask", times=1)
