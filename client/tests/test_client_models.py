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
from seedbed_schemas import Contract, default_contract, job_api
from seedbed_schemas.derive import derive
from seedbed_schemas.profile import profile_of
from tests.made_contracts import SHAPES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "schemas" / "tests" / "pages" / "tables.zh.md").read_text(encoding="utf-8")
TEXT = derive(PAGE)
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
    assert errors.count("\n") == errors.count("\ndocs: ") * 2 == 6
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
    assert capsys.readouterr().err.count("\n") == 2


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


CALLBACK_REQUIRED = SHAPES_BY_MODEL["callback required"]


def test_generate_refuses_a_missing_or_invalid_callback_url_before_anything_is_sent(
    shapes: MockServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes.reset()
    contract, progress = tmp_path / "contract.json", tmp_path / "run.json"
    contract.write_text(json.dumps(CALLBACK_REQUIRED.document))
    words = ["generate", "a hill", "--contract", str(contract), "--url", shapes.url, "--resume", str(progress)]
    assert main(words) == 2
    assert f"{CALLBACK_REQUIRED.model} requires a callback URL; add --callback-url URL." in capsys.readouterr().err
    assert main([*words, "--callback-url", "no URL"]) == 2
    assert "invalid callback URL 'no URL'; " in capsys.readouterr().err
    assert not progress.exists()
    shapes.assert_called("createTask", times=0)


def test_generate_gives_each_task_the_callback_url(shapes: MockServer, tmp_path: Path) -> None:
    shapes.reset()
    contract, receiver = tmp_path / "contract.json", f"{shapes.url}/nobody"
    contract.write_text(json.dumps(CALLBACK_REQUIRED.document))
    words = ["generate", "a hill", "a lake", "--contract", str(contract), "-o", str(tmp_path / "{index}.jpg")]
    assert main([*words, "--url", shapes.url, "--callback-url", receiver]) == 0
    requests = [call["request"] for call in shapes.calls if call["operation"] == "createTask"]
    assert [request["callBackUrl"] for request in requests] == [receiver] * 2


def test_a_resumed_run_needs_the_callback_url_only_for_new_tasks(
    shapes: MockServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes.reset()
    contract, progress = tmp_path / "contract.json", tmp_path / "run.json"
    contract.write_text(json.dumps(CALLBACK_REQUIRED.document))
    words = ["generate", "--contract", str(contract), "--url", shapes.url, "--resume", str(progress)]
    given = ["--callback-url", f"{shapes.url}/nobody"]
    shapes.add_faults("402; times=1")
    assert main([*words, "a hill", "-o", str(tmp_path / "a.jpg"), *given]) == 1
    capsys.readouterr()
    assert main(words) == 2
    assert "add --callback-url URL" in capsys.readouterr().err
    assert main([*words, *given]) == 0
    assert main(words) == 0


def test_a_missing_callback_url_is_named_as_the_argument(shapes: MockServer) -> None:
    shapes.reset()
    with (
        SeedreamClient(shapes.url, shapes.key, contracts=[CALLBACK_REQUIRED]) as client,
        pytest.raises(ValidationError, match="the contract requires callBackUrl; pass callback_url"),
    ):
        client.submit(model=CALLBACK_REQUIRED.model, input={"prompt": "a hill"})
    shapes.assert_called("createTask", times=0)


def other_service(model: str, **operation: str) -> Contract:
    """Return the contract of another service: its path, key header and scheme differ."""
    document = {**MEADOW.document, "x-operation": {**MEADOW.document["x-operation"], **operation}}
    return Contract(json.loads(json.dumps(document).replace(MEADOW.model, model)))


OPERATIONS = {
    "header and scheme": {"header": "X-Meadow", "scheme": "Token"},
    "no scheme": {"header": "X-Api-Key", "scheme": ""},
    "path": {"path": "/v2/meadow/jobs", "header": "Authorization", "scheme": "Bearer"},
    "method": {"method": "PUT", "path": "/v3/jobs"},
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_call_is_sent_as_the_given_contract_documents_it(operation: dict[str, str]) -> None:
    contract, sent = other_service("meadow/1-sketch", **operation), list[httpx2.Request]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        path, data = request.url.path, "http://127.0.0.1/public.jpg"
        answers = {
            contract.operation.path: {"taskId": "t1"},
            job_api().record_info.path: {"taskId": "t1", "model": contract.model, "state": "success"},
            job_api().credit.path: 5,
        }
        return httpx2.Response(200, json={"code": 200, "msg": "success", "data": answers.get(path, data)})

    transport = httpx2.MockTransport(answer)
    with SeedreamClient("http://127.0.0.1:1", "k-1", contracts=[contract], transport=transport) as client:
        client.submit(model=contract.model, input={"words": "sheep"}).wait()
        client.credits()
        client.download_url("http://127.0.0.1/a.jpg")
    created, *others = sent
    assert (created.method, created.url.path) == (contract.operation.method, contract.operation.path)
    assert len(others) == 3
    for request in sent:
        assert request.headers[contract.operation.header] == f"{contract.operation.scheme} k-1".strip()


def test_each_model_is_sent_as_its_own_contract_documents_it() -> None:
    sent, first = list[httpx2.Request](), other_service("meadow/first", header="X-First", scheme="", path="/first")
    second = other_service("meadow/second", header="X-Second", scheme="", path="/second")

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, json={"code": 200, "msg": "success", "data": {"taskId": "t1"}})

    transport = httpx2.MockTransport(answer)
    with SeedreamClient("http://127.0.0.1:1", "k-1", contracts=[first, second], transport=transport) as client:
        for model in (second.model, first.model, "unknown/model"):
            client.submit(model=model, input={"words": "sheep"}, validate=False)
        client.submit("a hill")
    assert [request.url.path for request in sent] == ["/second", "/first", "/first", "/api/v1/jobs/createTask"]
    headers = ["X-Second", "X-First", "X-First", "Authorization"]
    assert [header for header, request in zip(headers, sent, strict=True) if header in request.headers] == headers


@pytest.mark.parametrize(
    ("code", "message", "data"),
    [("code", "message", "data"), ("status", "reason", "data"), ("errorCode", "errorText", "result")],
)
def test_the_names_of_the_answer_are_those_of_the_contract(code: str, message: str, data: str) -> None:
    task = {"type": "object", "properties": {"taskId": {"type": "string"}}}
    names = {code: {"type": "integer"}, message: {"type": "string"}, data: task}
    document = {**MEADOW.document, "$defs": {**MEADOW.document["$defs"], "answer": {"properties": names}}}
    answers = iter([{code: 200, message: "fine", data: {"taskId": "t1"}}, {code: 422, message: "No sheep left"}])
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=next(answers)))
    with SeedreamClient("http://127.0.0.1:1", contracts=[Contract(document)], transport=transport) as client:
        assert client.submit(model=MEADOW.model, input={"words": "sheep"}).task_id == "t1"
        with pytest.raises(ValidationError, match="No sheep left"):
            client.submit(model=MEADOW.model, input={"words": "sheep"})


def test_the_server_of_a_given_contract_is_a_paid_service() -> None:
    with pytest.raises(ConfigurationError, match=r"api\.example\.com is the paid service"):
        SeedreamClient("https://api.example.com", contracts=[MEADOW])
    with SeedreamClient.live("k-1", contracts=[MEADOW]) as client:
        assert client.base_url == "https://api.example.com"
    with pytest.raises(ConfigurationError, match="the contracts name several servers"):
        SeedreamClient.live("k-1", contracts=[MEADOW, default_contract()])
    with SeedreamClient(contracts=[other_service("meadow/local", server="http://127.0.0.1:8640")]) as client:
        assert client.base_url.startswith("http://127.0.0.1")


def test_task_and_credits_use_the_key_header_of_a_contract(
    server: MockServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reset()
    contract = tmp_path / "meadow.json"
    contract.write_text(TEXT, encoding="utf-8")
    with SeedreamClient(server.url, server.key, contracts=[MEADOW]) as client:
        task_id = client.submit(model=MEADOW.model, input={"words": "sheep"}).task_id
    words = ["--contract", str(contract), "--url", server.url]
    assert main(["credits", *words]) == 0
    assert main(["task", task_id, *words]) == 0
    assert [MEADOW.operation.header.lower() in call["headers"] for call in server.calls] == [True] * 3
    assert main(["credits", "--contract", str(tmp_path / "nowhere.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
