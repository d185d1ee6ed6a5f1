"""``seedbed generate`` against a running mock server: what it saves and prints."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import httpx2
import pytest
from PIL import Image
from seedbed_client import SeedreamClient
from seedbed_mock import MockServer, running
from seedbed_mock.cli import main
from seedbed_schemas import default_contract
from seedbed_schemas.files import check_writable
from seedbed_schemas.profile import default_profile

INPUT = default_contract().part("request")["properties"]["input"]["properties"]


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running(task_seconds=0, rate_limit="off", credits=10**6) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: MockServer) -> None:
    monkeypatch.setenv("SEEDBED_BASE_URL", server.url)
    monkeypatch.delenv("SEEDBED_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("quality", INPUT["quality"]["enum"])
@pytest.mark.parametrize("ratio", INPUT["aspect_ratio"]["enum"])
def test_the_image_is_saved_in_the_requested_size(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, ratio: str, quality: str
) -> None:
    assert main(["generate", "a hill", "--aspect-ratio", ratio, "--quality", quality, "-o", "out.jpg"]) == 0
    output, errors = capsys.readouterr()
    assert output.startswith("Saved out.jpg (")
    assert "success" in errors
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.size == default_profile().size({"aspect_ratio": ratio, "quality": quality})
    assert list(tmp_path.iterdir()) == [tmp_path / "out.jpg"]


def test_the_default_file_name_is_the_task_id(tmp_path: Path) -> None:
    assert main(["generate", "a hill"]) == 0
    (saved,) = tmp_path.iterdir()
    assert saved.match("task_seedream_*.jpg")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--aspect-ratio", "5:4"], 2, "21:9"),
        (["--quality", "best"], 2, "basic"),
        (["--live"], 2, "SEEDBED_API_KEY"),
        (["--live", "--url", "http://127.0.0.1:1", "--key", "x"], 2, "two services"),
        (["--url", default_contract().operation.server], 2, "--live"),
        (["--url", "nonsense"], 2, "nonsense"),
        (["--url", "http://127.0.0.1:1", "--max-retries", "0"], 5, "seedbed serve"),
        (["--key", "wrong"], 1, "401"),
        (["--key", "a b"], 2, "visible ASCII"),
        (["-o", "nowhere/out.jpg"], 2, "no such directory"),
        (["-o", "."], 2, "directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str) -> None:
    assert main(["generate", "a hill", *arguments]) == code
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 2
    assert words in errors


def respond_with(
    monkeypatch: pytest.MonkeyPatch, record: dict[str, object], message: str = "", code: int = 200
) -> None:
    """Make every request of the command receive this response."""

    def handle(_: httpx2.Request) -> httpx2.Response:
        task = {"taskId": "t1", "model": "m", "param": "", "createTime": 1, **record}
        return httpx2.Response(200, json={"code": code, "msg": message, "data": task})

    real, transport = httpx2.AsyncClient, httpx2.MockTransport(handle)
    monkeypatch.setattr(httpx2, "AsyncClient", lambda **options: real(**{**options, "transport": transport}))


@pytest.mark.parametrize("results", ["", '{"resultUrls": []}'])
def test_a_successful_task_without_a_result_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], results: str
) -> None:
    respond_with(monkeypatch, {"state": "success", "resultJson": results})
    assert main(["generate", "a hill"]) == 4
    assert "no result" in capsys.readouterr().err


def test_a_message_of_the_service_cannot_control_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    respond_with(monkeypatch, {}, "\x1b]0;owned\x07\nsecond line", 401)
    assert main(["generate", "a hill"]) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 2
    assert errors.rstrip("\n").replace("\ndocs: ", "").isprintable()


def test_an_unwritable_output_is_refused_before_anything_is_charged(server: MockServer) -> None:
    with SeedreamClient(server.url) as client:
        before = client.credits()
        assert main(["generate", "a hill", "-o", "nowhere/out.jpg"]) == 2
        assert client.credits() == before


def test_an_error_while_saving_names_the_url_of_the_image(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(*_: object) -> NoReturn:
        (tmp_path / "folder").rmdir()
        check_writable(tmp_path / "folder" / "out.jpg")
        raise AssertionError

    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("seedbed_client._downloads.check_writable", vanish)
    assert main(["generate", "a hill", "-o", "folder/out.jpg"]) == 4
    errors = capsys.readouterr().err
    assert "no such directory" in errors
    assert "/results/" in errors


def test_a_task_id_cannot_choose_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "../../evil"

    def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("createTask"):
            return httpx2.Response(200, json={"code": 200, "msg": "", "data": {"taskId": name}})
        if request.url.path.endswith("recordInfo"):
            urls = '{"resultUrls": ["http://127.0.0.1:1/a", "http://127.0.0.1:1/b"]}'
            record = {"taskId": name, "model": "m", "state": "success", "param": "", "createTime": 1}
            return httpx2.Response(200, json={"code": 200, "msg": "", "data": {**record, "resultJson": urls}})
        return httpx2.Response(200, content=b"\xff\xd8\xff\xd9", headers={"content-type": "image/jpeg"})

    real, transport = httpx2.AsyncClient, httpx2.MockTransport(handle)
    monkeypatch.setattr(httpx2, "AsyncClient", lambda **options: real(**{**options, "transport": transport}))
    assert main(["generate", "a hill"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"______evil.jpg", "______evil-2.jpg"}
    assert capsys.readouterr().out.count("Saved") == 2


PROGRAM = """
import signal, sys
from seedbed_mock.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs start with SIGINT ignored
sys.exit(main())
"""


def test_an_interrupt_prints_the_task_id() -> None:
    with running(task_seconds=3600) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "generate", "x"],
            env={**os.environ, "SEEDBED_BASE_URL": server.url},
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr
            while "waiting" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            errors = process.stderr.read()
    assert process.returncode == 130
    assert "the task continues as task_seedream_" in errors
    assert "Traceback" not in errors


def test_progress_is_live_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", shown)
    assert main(["generate", "a hill", "-o", "out.jpg"]) == 0
    assert "success" in shown.getvalue()
    assert "\x1b[" in shown.getvalue()
