"""Results: downloads into memory or into files, which are complete or not there."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from seedbed_client import AsyncSeedreamClient, DownloadError, SeedreamClient
from seedbed_mock import MockServer, running

PNG = b"\x89PNG\r\n\x1a\n..IEND\xaeB`\x82"
URL = "http://127.0.0.1:9/a"


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running() as server:
        yield server


@pytest.fixture(name="client")
def make_client(server: MockServer) -> Iterator[SeedreamClient]:
    server.play(task_seconds=0, rate_limit="off", credits=10**6)
    with SeedreamClient(server.url, server.key, sleep=lambda _: None) as client:
        yield client


def test_a_result_is_written_to_a_file(client: SeedreamClient, tmp_path: Path) -> None:
    task = client.generate("a hill")
    path = client.download(task.result_urls[0], to=tmp_path / "hill.jpg")
    with Image.open(path) as image:
        assert image.size == (2048, 2048)
    assert client.result_images(task) == client.result_images(task.task_id) == (path.read_bytes(),)


def test_the_async_client_writes_a_result_to_a_file(server: MockServer, client: SeedreamClient, tmp_path: Path) -> None:
    task = client.generate("a hill")

    async def download() -> tuple[bytes, bytes]:
        async with AsyncSeedreamClient(server.url, server.key) as other:
            path = await other.download(task.result_urls[0], to=tmp_path / "hill.jpg")
            assert (await other.result_images(task.task_id)) == (path.read_bytes(),)
            return await other.download(await other.download_url(task.result_urls[0])), path.read_bytes()

    first, second = asyncio.run(download())
    assert first == second


@pytest.mark.parametrize("fault", ["result.empty-url", "result.dead-url", "result.expired", "result.cut"])
def test_a_broken_result_leaves_no_file(client: SeedreamClient, server: MockServer, tmp_path: Path, fault: str) -> None:
    server.add_faults(fault)
    task = client.generate("a hill")
    with pytest.raises(DownloadError):
        client.download(task.result_urls[0], to=tmp_path / "hill.jpg")
    with pytest.raises(DownloadError):
        client.result_images(task)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["wire.cut-short", "wire.reset at=middle", "wire.close", "answer.html status=502"])
def test_a_download_is_retried_after_a_broken_connection(
    client: SeedreamClient, server: MockServer, tmp_path: Path, fault: str
) -> None:
    task = client.generate("a hill")
    whole = client.download(task.result_urls[0])
    server.add_faults(f"{fault}; times=1")
    assert client.download(task.result_urls[0], to=tmp_path / "hill.jpg").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["hill.jpg"]


def test_a_failed_download_keeps_the_existing_file(client: SeedreamClient, tmp_path: Path) -> None:
    (tmp_path / "hill.jpg").write_bytes(b"old")
    with pytest.raises(DownloadError):
        client.download(f"{client.base_url}/results/none.jpg", to=tmp_path / "hill.jpg")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_symbolic_link_is_followed_and_a_folder_is_refused(client: SeedreamClient, tmp_path: Path) -> None:
    url = client.generate("a hill").result_urls[0]
    (tmp_path / "link.jpg").symlink_to(tmp_path / "real.jpg")
    assert client.download(url, to=tmp_path / "link.jpg") == tmp_path / "link.jpg"
    assert (tmp_path / "link.jpg").is_symlink()
    assert (tmp_path / "real.jpg").stat().st_size > 10_000
    with pytest.raises(OSError, match="directory"):
        client.download(url, to=tmp_path)


def client_receiving(content: bytes, content_type: str = "image/png", status: int = 200) -> SeedreamClient:
    response = httpx2.Response(status, content=content, headers={"content-type": content_type})
    return SeedreamClient(transport=httpx2.MockTransport(lambda _: response), max_retries=0)


@pytest.mark.parametrize("content", [PNG, b"\xff\xd8\xff\xff\xd9", b"RIFF....WEBP"])
def test_images_of_known_formats_are_accepted(content: bytes) -> None:
    assert client_receiving(content).download(URL) == content


@pytest.mark.parametrize(
    ("content", "content_type"), [(b"", "image/png"), (PNG[:-1], "image/png"), (b"MZ", "image/png"), (PNG, "text/html")]
)
def test_incomplete_images_are_refused(content: bytes, content_type: str) -> None:
    with pytest.raises(DownloadError):
        client_receiving(content, content_type).download(URL)


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "ftp://h/a", "a.jpg"])
def test_only_http_urls_are_downloaded(url: str) -> None:
    with pytest.raises(DownloadError):
        client_receiving(PNG).download(url)


def test_a_result_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("seedbed_client._downloads.MAX_RESULT_BYTES", 100)
    with pytest.raises(Exception, match="larger than 100 bytes"):
        client_receiving(PNG + bytes(200)).download(URL, to=tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_result_images_of_an_unfinished_task_is_an_error(client: SeedreamClient, server: MockServer) -> None:
    server.add_faults("task.stuck")
    with pytest.raises(DownloadError, match="waiting"):
        client.result_images(client.create_task("a hill"))


def test_result_images_returns_the_unchanged_bytes(client: SeedreamClient) -> None:
    (content,) = client.result_images(client.generate("a hill", aspect_ratio="21:9", quality="high"))
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (6240, 2656)
