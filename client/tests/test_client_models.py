"""The client with the contract of another model: its fields, its defaults and its codes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from seedbed_client import ApiError, ConfigurationError, SeedreamClient, ValidationError
from seedbed_contract.cases import accepted
from seedbed_mock import MockServer, running
from seedbed_mock.cli import main
from seedbed_schemas import Contract, default_contract
from seedbed_schemas.derive import derive
from seedbed_schemas.profile import profile_of
from tests.made_contracts import SHAPES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "schemas" / "tests" / "pages" / "tables.zh.md").read_text(encoding="utf-8")
TEXT = derive(PAGE.replace("X-Meadow", "Authorization").replace("Token", "Bearer"))
MEADOW = Contract(json.loads(TEXT))


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running(contracts=[MEADOW], task_seconds=0, rate_limit="off", credits=10**6) as server:
        yield server


def test_a_task_of_another_model_uses_its_contract(server: MockServer) -> None:
    with SeedreamClient(server.url, server.key, contracts=[MEADOW]) as client:
        task = client.wait(client.submit(model=MEADOW.model, input={"words": "sheep", "copies": 4}))
    assert task.model == MEADOW.model
    assert task.input == {"words": "sheep", "copies": 4}


def test_another_model_has_its_own_defaults(server: MockServer) -> None:
    with SeedreamClient(server.url, server.key, contracts=[MEADOW]) as client:
        task_id = client.submit(model=MEADOW.model, input={"words": "sheep"})
        assert client.get_task(task_id).input == {"words": "sheep", "copies": 1}


def test_invalid_input_is_only_sent_with_validate_false(server: MockServer) -> None:
    server.reset()
    with SeedreamClient(server.url, server.key, contracts=[MEADOW]) as client:
        with pytest.raises(ValidationError, match=r"copies must be one of 1, 2, 4, not 3"):
            client.submit(model=MEADOW.model, input={"words": "sheep", "copies": 3})
        server.assert_called("createTask", times=0)
        with pytest.raises(ValidationError, match=r"copies must be one of 1, 2, 4, not 3"):
            client.submit(model=MEADOW.model, input={"words": "sheep", "copies": 3}, validate=False)
        server.assert_called("createTask", times=1)


def test_an_unknown_model_error_lists_the_known_models() -> None:
    with SeedreamClient() as client, pytest.raises(ConfigurationError, match=re.escape(default_contract().model)):
        client.submit(model="other/model", input={})


def test_a_code_of_another_contract_has_its_own_class(server: MockServer) -> None:
    with (
        httpx2.Client(headers={"X-Seedbed-Fault": "499"}, trust_env=False) as http,
        SeedreamClient(server.url, server.key, contracts=[MEADOW], http_client=http) as client,
        pytest.raises(ApiError) as error,
    ):
        client.credits()
    assert type(error.value).__name__ == "Code499Error"


def test_the_command_generates_with_another_model(
    server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEEDBED_BASE_URL", server.url)
    monkeypatch.chdir(tmp_path)
    Path("meadow.json").write_text(TEXT, encoding="utf-8")
    command = ["generate", "sheep", "--contract", "meadow.json", "-o", "out.jpg"]
    assert main([*command, "--field", "copies=2", "--field", "size=640x480"]) == 0
    with Image.open("out.jpg") as image:
        assert image.size == (640, 480)
    assert main([*command, "--field", "prompt=an unnamed field", "--field", "words=goats"]) == 0
    assert main([*command, "--field", "copies=3"]) == 1
    assert "copies must be one of 1, 2, 4" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_an_invalid_contract_file_is_one_line_of_error(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = tmp_path / "meadow.json"
    contract.write_bytes(content)
    assert main(["generate", "sheep", "--contract", str(contract)]) == 2
    assert main(["serve", "--contract", str(contract)]) == 2
    assert main(["serve", "--contract", str(tmp_path / "nowhere.json")]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 3
    assert errors.count("meadow.json") == 2


WRONG_NUMBERS = ["NaN", "-Infinity", "1e999"]


@pytest.mark.parametrize(
    "assignment", ["copies", "=2", "copies=many", "copies=", *(f"copies={number}" for number in WRONG_NUMBERS)]
)
def test_an_invalid_field_is_one_line_of_error(
    tmp_path: Path, assignment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = tmp_path / "meadow.json"
    contract.write_text(TEXT, encoding="utf-8")
    assert main(["generate", "sheep", "--contract", str(contract), "--field", assignment]) == 2
    assert capsys.readouterr().err.count("\n") == 1


SHAPES_BY_MODEL = {
    # All of one server, so each needs a model of its own.
    name: Contract(json.loads(json.dumps(contract.document).replace(contract.model, f"meadow/shape-{number}")))
    for number, (name, contract) in enumerate(SHAPES.items())
}


@pytest.fixture(scope="module", name="shapes")
def make_server_of_all_shapes() -> Iterator[MockServer]:
    with running(contracts=SHAPES_BY_MODEL.values(), rate_limit="off", credits=10**6, task_seconds=0) as server:
        yield server


@pytest.mark.parametrize("name", SHAPES)
def test_a_task_of_a_contract_of_any_shape_can_be_created(shapes: MockServer, name: str) -> None:
    contract = SHAPES_BY_MODEL[name]
    request = accepted(contract)[0].request
    with SeedreamClient(shapes.url, shapes.key, contracts=[contract]) as client:
        handle = client.submit(
            model=contract.model, input=request.get("input", {}), callback_url=request.get("callBackUrl")
        )
        task = handle.wait()
    assert task.result_urls
    call = [call for call in shapes.calls if call["operation"] == "createTask"][-1]
    assert contract.request.accepts(call["request"])


@pytest.mark.parametrize("name", sorted(SHAPES.keys() - {"callback required", "arrays of objects"}))
def test_generate_saves_the_result_of_a_contract_of_any_shape(
    shapes: MockServer, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = SHAPES_BY_MODEL[name]
    (tmp_path / "contract.json").write_text(json.dumps(contract.document))
    caption, given = profile_of(contract).caption, accepted(contract)[0].request.get("input", {})
    fields = [
        f"--field={field}={value if isinstance(value, str) else json.dumps(value)}"
        for field, value in given.items()
        if field not in {caption, *contract.defaults}
    ]
    words = [
        "generate",
        "a hill",
        "--contract",
        str(tmp_path / "contract.json"),
        "-o",
        str(tmp_path / "a.jpg"),
        *fields,
    ]
    assert main([*words, "--url", shapes.url]) == 0, capsys.readouterr().err
    assert (tmp_path / "a.jpg").stat().st_size


def test_generate_names_a_required_callback_that_it_cannot_give(
    shapes: MockServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "callback required"
    (tmp_path / "contract.json").write_text(json.dumps(SHAPES_BY_MODEL[name].document))
    words = ["generate", "a hill", "--contract", str(tmp_path / "contract.json"), "--url", shapes.url]
    assert main(words) == 1
    assert "callBackUrl is required" in capsys.readouterr().err
