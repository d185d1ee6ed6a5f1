"""Models beyond the shipped one, mocked from their contracts."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from seedbed_mock import create_app, running
from seedbed_mock.cli import main
from seedbed_mock.results.picture import picture_of
from seedbed_mock.settings import SettingsError
from seedbed_schemas import Contract, default_contract, job_api
from seedbed_schemas.derive import derive
from seedbed_schemas.drift import drift
from seedbed_schemas.profile import Profile, profile_of
from tests.made_contracts import SHAPES
from tests.made_contracts import contract_of as made_contract

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "schemas" / "tests" / "pages" / "tables.zh.md").read_text(encoding="utf-8")


def contract_of(page: str) -> Contract:
    return Contract(json.loads(derive(page)))


MEADOW = contract_of(PAGE)
SHIPPED = default_contract()
CREATE = SHIPPED.operation.path


class Service:
    def __init__(self, url: str, key: str) -> None:
        self.http = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False)

    def create(self, body: object, path: str = MEADOW.operation.path) -> dict[str, Any]:
        response: dict[str, Any] = self.http.post(path, json=body).json()
        return response


@pytest.fixture(scope="module", name="service")
def make_service() -> Iterator[Service]:
    with running(contracts=[MEADOW], task_seconds=0, rate_limit="off", credits=10**6) as server:
        service = Service(server.url, server.key)
        yield service
        service.http.close()


def request(**values: object) -> dict[str, Any]:
    return {"model": MEADOW.model, "input": {"words": "sheep", **values}}


def test_a_contract_is_enough_to_mock_a_model(service: Service) -> None:
    task_id = service.create(request())["data"]["taskId"]
    assert task_id.startswith("task_meadow_")
    record = service.http.get(job_api().record_info.path, params={"taskId": task_id}).json()["data"]
    assert record["model"] == MEADOW.model
    image = Image.open(io.BytesIO(httpx2.get(record["resultJson"].split('"')[3], trust_env=False).content))
    assert image.size == (1024, 1024)


def test_requests_are_validated_by_the_contract_of_their_model(service: Service) -> None:
    assert "input.words must have at most 40 characters" in service.create(request(words="x" * 41))["msg"]
    assert "input.copies must be one of 1, 2, 4" in service.create(request(copies=3))["msg"]
    assert service.create(request(copies=4))["code"] == 200


def test_the_shipped_model_is_still_mocked(service: Service) -> None:
    body = {"model": SHIPPED.model, "input": {"prompt": "a", "aspect_ratio": "1:1", "quality": "basic"}}
    assert service.create(body, SHIPPED.operation.path)["code"] == 200


def test_a_contract_in_the_folder_of_shipped_contracts_is_used(tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(ROOT / "schemas" / "seedbed_schemas", site / "seedbed_schemas")
    (site / "seedbed_schemas" / "contracts" / "meadow-1-sketch.json").write_text(derive(PAGE), encoding="utf-8")
    code = "from seedbed_mock.catalogue import ModelCatalogue; print(*ModelCatalogue().models)"
    environment = {"PYTHONPATH": str(site), "PATH": ""}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [SHIPPED.model, MEADOW.model]


def test_an_unknown_model_is_refused_with_the_known_ones(service: Service) -> None:
    message = service.create({"model": "nope"})["msg"]
    assert MEADOW.model in message
    assert SHIPPED.model in message


def test_of_many_models_an_unknown_one_is_refused_with_the_three_nearest() -> None:
    names = [f"maker-{number}/video-{number}" for number in range(100)]
    near = ["seedream/4.5-edit", "seedream/4-text-to-image"]
    contracts = [made_contract({}, model=name) for name in (*names, *near)]
    with running(contracts=contracts) as server:
        service = Service(server.url, server.key)
        responses = [service.create({"model": name}, CREATE) for name in ("seedream/4.5-text-to-img", "x" * 10**6, "")]
        schema = service.http.get(job_api().model_schema.path.replace("{model}", "seedream/4.5")).json()
        service.http.close()
    assert [response["code"] for response in responses] == [422] * 3
    assert responses[0]["msg"].endswith(
        f"Known models nearest to it: {SHIPPED.model}, seedream/4-text-to-image, seedream/4.5-edit."
    )
    assert all(len(response["msg"]) < 300 for response in (*responses, schema))
    assert schema["code"] == 404
    assert "seedream/4.5-edit" in schema["msg"]


@pytest.mark.parametrize(
    ("header", "scheme", "sent"),
    [("X-Meadow", "Token", "Token {}"), ("X-Key", "", "{}"), ("Authorization", "Key", "key {}")],
)
def test_a_key_is_taken_as_the_contract_of_any_model_describes(header: str, scheme: str, sent: str) -> None:
    document = json.loads(json.dumps(made_contract({}).document))
    document["x-operation"] |= {"header": header, "scheme": scheme}
    contract = Contract(document)
    with running(contracts=[contract], key="sk-meadow-1234") as server:
        body = {"model": contract.model}
        for headers, code in (
            ({header: sent.format("sk-meadow-1234")}, 200),
            ({"Authorization": "Bearer sk-meadow-1234"}, 200),
            ({header: sent.format("sk-meadow-123")}, 401),
            ({header: "Basic sk-meadow-1234"}, 401),
            ({"X-Other": sent.format("another-key")}, 401),
        ):
            response = httpx2.post(server.url + CREATE, json=body, headers=headers, trust_env=False)
            assert (headers, response.json()["code"]) == (headers, code)
        assert "sk-meadow-1234" not in repr(server.calls)


def test_two_contracts_of_one_model_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = made_contract({"additionalProperties": False})
    with pytest.raises(SettingsError, match=r"Two contracts are of the model meadow/1-sketch; give one of them\."):
        create_app(contracts=(contract for contract in (made_contract({}), other)))
    assert create_app(contracts=[other, made_contract({"additionalProperties": False})])
    for name, contract in (("a", made_contract({})), ("b", other)):
        (tmp_path / name).write_text(json.dumps(contract.document))
    assert main(["serve", "--contract", str(tmp_path / "a"), "--contract", str(tmp_path / "b"), "--port", "0"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_serve_says_which_built_in_contract_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(SHIPPED.document))
    command = [sys.executable, "-m", "seedbed_mock", "--port", "0", "--contract", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        lines = [server.stdout.readline() for _ in range(3)]
        server.terminate()
    assert lines[1] == f"The contract {path} replaces the built-in one of {SHIPPED.model}.\n"


def test_a_code_that_only_one_model_documents_can_be_simulated(service: Service) -> None:
    response = service.http.post(MEADOW.operation.path, json=request(), headers={"X-Seedbed-Fault": "499"}).json()
    assert response["code"] == 499
    assert response["msg"]


def test_a_contract_of_the_shipped_model_replaces_it() -> None:
    narrow = (
        PAGE.replace("meadow/1-sketch", SHIPPED.model).replace("X-Meadow", "Authorization").replace("Token", "Bearer")
    )
    with running(contracts=[contract_of(narrow)], rate_limit="off") as server:
        service = Service(server.url, server.key)
        assert service.create({"model": SHIPPED.model, "input": {"words": "x" * 41}})["code"] == 422
        assert service.create({"model": SHIPPED.model, "input": {"words": "x"}})["code"] == 200
        service.http.close()


@pytest.mark.parametrize("given", [None, "sheep", ["sheep"], {"words": ["sheep"]}], ids=repr)
def test_a_model_with_an_unspecified_input_has_results(given: object) -> None:
    document = json.loads(derive(PAGE.replace("X-Meadow", "Authorization").replace("Token", "Bearer")))
    document["$defs"]["request"]["properties"]["input"] = {}
    with running(contracts=[Contract(document)], task_seconds=0) as server:
        service = Service(server.url, server.key)
        task_id = service.create({"model": MEADOW.model, "input": given})["data"]["taskId"]
        record = service.http.get(job_api().record_info.path, params={"taskId": task_id}).json()["data"]
        image = httpx2.get(record["resultJson"].split('"')[3], trust_env=False)
        assert image.headers["content-type"] == "image/jpeg"
        service.http.close()


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({}, (1024, 1024)),
        ({"size": "1280x720"}, (1280, 720)),
        ({"size": "9999x1"}, (8192, 16)),
        ({"ratio": "4:1"}, (2048, 512)),
        ({"ratio": "0:0"}, (1024, 1024)),
        ({"n": 3, "ratio": "3:2"}, (1256, 836)),
        ({"text": "at 16:9 o'clock"}, (1024, 1024)),
    ],
)
def test_the_image_size_of_an_unknown_model_follows_from_its_input(
    values: dict[str, object], size: tuple[int, int]
) -> None:
    found = Profile("m").size(values)
    assert found == pytest.approx(size, abs=8)
    assert all(side % 8 == 0 for side in found)


@pytest.mark.parametrize(
    ("model", "media"),
    [
        ("maker/2-image-to-video", "video"),
        ("maker/2-text-to-image", "image"),
        ("maker/image-edit", "image"),
        ("maker/veo-video", "video"),
        ("maker/text-to-speech-hd", "audio"),
        ("meadow/1-sketch", ""),
        (SHIPPED.model, "image"),
    ],
)
def test_what_a_model_makes_follows_from_its_name(model: str, media: str) -> None:
    profile = profile_of(SHIPPED if model == SHIPPED.model else made_contract({}, model=model))
    assert profile.media == media
    label = picture_of(profile, model, {}, 0).label
    assert ("still image, no" in label) is (media in {"video", "audio"})


def test_the_caption_of_an_unknown_model_is_its_first_free_text() -> None:
    assert profile_of(MEADOW).caption == "words"
    assert profile_of(SHAPES["no prompt"]).caption == ""


def test_the_models_are_listed(service: Service) -> None:
    data = service.http.get(job_api().models.path).json()["data"]
    assert data["total"] == 2
    assert [model["model"] for model in data["models"]] == [SHIPPED.model, MEADOW.model]


@pytest.mark.parametrize("contract", [SHIPPED, MEADOW], ids=lambda contract: contract.model)
def test_the_schema_of_a_model_derives_its_contract_again(service: Service, contract: Contract) -> None:
    response = service.http.get(job_api().model_schema.path.replace("{model}", contract.model))
    again = contract_of(response.text)
    assert drift(contract, again) == ()


@pytest.mark.parametrize("name", ["nope", "seedream", "seedream/4.5-text-to-image/more", "%2e%2e/%2e%2e"])
def test_the_schema_of_an_unknown_model_gets_404(service: Service, name: str) -> None:
    assert service.http.get(job_api().model_schema.path.replace("{model}", name)).json()["code"] == 404


def test_the_models_require_a_key(service: Service) -> None:
    for path in (job_api().models.path, job_api().model_schema.path.replace("{model}", SHIPPED.model)):
        assert service.http.get(path, headers={"Authorization": "Bearer wrong"}).json()["code"] == 401
