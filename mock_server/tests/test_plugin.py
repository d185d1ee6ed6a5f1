"""The pytest plugin, in a test run of another project."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from seedbed_mock import MockServer, create_app
from seedbed_schemas import default_contract
from seedbed_schemas.openapi import example_of

HELPERS = """
import json, urllib.request
import pytest

def ask(seedbed, path, body=None):
    headers = {"Authorization": f"Bearer {seedbed.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(seedbed.url + path, body and json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request))["data"]

def create(seedbed, prompt="a hill", ratio="16:9"):
    values = {"prompt": prompt, "aspect_ratio": ratio, "quality": "basic"}
    body = {"model": "seedream/4.5-text-to-image", "input": values}
    return ask(seedbed, "/api/v1/jobs/createTask", body)["taskId"]

def credits(seedbed):
    return ask(seedbed, "/api/v1/chat/credit")
"""


class UserProject:
    """A project with Seedbed installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, tests: str, *, finds_plugins: bool = False) -> str:
        (self.folder / "test_user.py").write_text(HELPERS + tests)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", "."]
        environment = dict(os.environ)
        if not finds_plugins:
            # Loading the plugins of everything that is installed takes three times as long as the tests.
            environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            command += ["-p", "seedbed_mock.pytest_plugin"]
        result = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        return result.stdout + result.stderr


@pytest.fixture
def project(tmp_path: Path) -> UserProject:
    return UserProject(tmp_path)


def test_the_fixture_is_a_running_server(seedbed: MockServer) -> None:
    contract = default_contract()
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    body = example_of(contract.part("request"))
    response = httpx2.post(seedbed.url + contract.operation.path, json=body, headers=headers, trust_env=False).json()
    assert response["code"] == 200


@pytest.mark.slow
def test_another_project_needs_only_the_name_of_the_fixture(project: UserProject) -> None:
    output = project.run(
        """
def test_one(seedbed):
    assert credits(seedbed) == 1_000_000
    create(seedbed)
    assert credits(seedbed) < 1_000_000
    seedbed.assert_called("createTask", times=1, aspect_ratio="16:9")

def test_two_starts_over(seedbed):
    assert credits(seedbed) == 1_000_000
    assert [call["operation"] for call in seedbed.calls] == ["credit"]
    seedbed.assert_called("createTask", times=0)
""",
        finds_plugins=True,
    )
    assert "2 passed" in output, output


def test_a_marker_sets_options_for_its_test_only(project: UserProject) -> None:
    output = project.run("""
@pytest.mark.seedbed(task_seconds=30, clock="manual", credits=13)
class TestSlow:
    def test_the_clock_is_advanced(self, seedbed):
        task = create(seedbed)
        assert credits(seedbed) == 6.5
        assert seedbed.task(task)["state"] == "waiting"
        seedbed.advance(30)
        assert seedbed.task(task)["state"] == "success"

    @pytest.mark.seedbed(credits=6.5)
    def test_the_inner_marker_adds_to_the_outer_one(self, seedbed):
        seedbed.fail(create(seedbed), 422)
        assert credits(seedbed) == 6.5

def test_defaults(seedbed):
    assert seedbed.task(create(seedbed))["state"] == "success"
""")
    assert "3 passed" in output, output


def test_an_invalid_marker_fails_the_test_with_one_sentence(project: UserProject) -> None:
    output = project.run("""
@pytest.mark.seedbed(task_seconds=-5)
def test_negative(seedbed): ...

@pytest.mark.seedbed(no_such_flag=1)
def test_unknown(seedbed): ...

@pytest.mark.seedbed(task_second=1)
def test_misspelt(seedbed): ...

@pytest.mark.seedbed("banana")
def test_positional(seedbed): ...

@pytest.mark.seedbed(port=8080)
def test_fixed(seedbed): ...

def test_the_next_one_is_not_affected(seedbed):
    create(seedbed)
""")
    assert "use SECONDS" in output, output
    assert "Unknown option no_such_flag; the options are host, port" in output
    assert "Unknown option task_second; did you mean task_seconds?" in output
    assert "Traceback" not in output
    assert "pytest_plugin.py" not in output
    assert "takes options by name, such as task_seconds=30, not 'banana'" in output
    assert "keeps its port" in output
    assert "1 passed, 5 errors" in output


def test_a_failed_assertion_describes_the_nearest_call(project: UserProject) -> None:
    output = project.run("""
def test_nearest(seedbed):
    create(seedbed, ratio="1:1")
    seedbed.assert_called("createTask", times=2, aspect_ratio="16:9")
""")
    assert 'input.aspect_ratio is "1:1", not "16:9"' in output, output


def test_an_internal_error_of_the_server_fails_the_test(project: UserProject) -> None:
    output = project.run("""
import seedbed_mock.handlers

def test_broken(seedbed, monkeypatch):
    def broken(*_, **__): raise RuntimeError("a bug of the server")
    monkeypatch.setattr(seedbed_mock.handlers, "record", broken)
    task = create(seedbed)
    ask(seedbed, f"/api/v1/jobs/recordInfo?taskId={task}")

def test_the_next_one_passes(seedbed):
    create(seedbed)
""")
    assert "RuntimeError: a bug of the server" in output, output
    assert "1 failed, 1 passed" in output


def test_an_internal_error_while_a_fixture_is_set_up_or_torn_down_is_an_error_there(project: UserProject) -> None:
    output = project.run("""
import seedbed_mock.handlers

def broken(*_, **__): raise RuntimeError("a bug of the server")

@pytest.fixture
def early(seedbed, monkeypatch):
    monkeypatch.setattr(seedbed_mock.handlers, "record", broken)
    ask(seedbed, f"/api/v1/jobs/recordInfo?taskId={create(seedbed)}")

def test_set_up(early): pass

@pytest.fixture
def late(seedbed, monkeypatch):
    yield
    monkeypatch.setattr(seedbed_mock.handlers, "record", broken)
    ask(seedbed, f"/api/v1/jobs/recordInfo?taskId={create(seedbed)}")

def test_tear_down(late): pass

def test_of_a_factory(seedbed_factory, monkeypatch):
    with seedbed_factory() as server:
        monkeypatch.setattr(seedbed_mock.handlers, "record", broken)
        ask(server, f"/api/v1/jobs/recordInfo?taskId={create(server)}")

def test_the_next_one_passes(seedbed):
    create(seedbed)
""")
    assert "ERROR at setup of test_set_up" in output, output
    assert "ERROR at teardown of test_tear_down" in output
    assert "1 failed, 2 passed, 2 errors" in output


def test_a_factory_starts_servers_of_any_scope(project: UserProject) -> None:
    output = project.run("""
@pytest.fixture(scope="module")
def observed(seedbed_factory):
    with seedbed_factory(dialect="observed", credits=13) as server:
        yield server

def test_one(observed):
    assert len(create(observed)) == 32
    assert credits(observed) == 6.5

def test_two_goes_on(observed, seedbed, seedbed_factory):
    assert credits(observed) == 6.5
    assert credits(seedbed) == 1_000_000
    assert credits(seedbed_factory(credits=5)) == 5
    assert len({observed.url, seedbed.url, seedbed_factory().url}) == 3

def test_an_option_is_checked(seedbed_factory):
    with pytest.raises(ValueError, match="did you mean dialect"):
        seedbed_factory(dialekt="observed")
""")
    assert "3 passed" in output, output


def test_a_marker_keeps_the_state_between_the_tests_of_a_module(project: UserProject) -> None:
    (project.folder / "test_another.py").write_text("""
import pytest
pytestmark = pytest.mark.seedbed(keep_state=True, credits=13)

def test_another_module_starts_over(seedbed):
    assert seedbed.calls == []
""")
    output = project.run("""
pytestmark = pytest.mark.seedbed(keep_state=True, credits=13)

def test_one(seedbed):
    assert credits(seedbed) == 13
    create(seedbed)

def test_two(seedbed):
    assert credits(seedbed) == 6.5

@pytest.mark.seedbed(keep_state=False)
def test_starts_over(seedbed):
    assert credits(seedbed) == 13

def test_after_it(seedbed):
    assert credits(seedbed) == 13
    create(seedbed)

@pytest.mark.seedbed(task_seconds=1)
def test_other_options_start_over(seedbed):
    assert credits(seedbed) == 13
""")
    assert "6 passed" in output, output


@pytest.mark.slow
def test_requests_of_httpx_and_httpx2_for_the_paid_service_are_redirected(project: UserProject) -> None:
    output = project.run("""
import asyncio, httpx, httpx2

SERVICE = "https://api.kie.ai"
VALUES = {"prompt": "a hill", "aspect_ratio": "16:9", "quality": "basic"}
BODY = {"model": "seedream/4.5-text-to-image", "input": VALUES}

@pytest.mark.parametrize("library", [httpx, httpx2])
def test_blocking(seedbed, library):
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    with seedbed.respx_router() as router, library.Client(base_url=SERVICE, headers=headers) as client:
        task = client.post("/api/v1/jobs/createTask", json=BODY).json()["data"]["taskId"]
        record = client.get("/api/v1/jobs/recordInfo", params={"taskId": task}).json()["data"]
        url = json.loads(record["resultJson"])["resultUrls"][0]
        assert client.get(url).content.startswith(bytes([255, 216]))
        assert [call.request.url.host for call in router.calls][:2] == ["api.kie.ai", "api.kie.ai"]
    seedbed.assert_called("createTask", times=1, prompt="a hill")

@pytest.mark.parametrize("library", [httpx, httpx2])
def test_async(seedbed, library):
    async def ask():
        async with library.AsyncClient(base_url=SERVICE) as client:
            return (await client.post("/api/v1/jobs/createTask", json=BODY)).json()
    with seedbed.respx_router():
        assert asyncio.run(ask())["code"] == 401

def test_nothing_is_redirected_outside_the_block(seedbed):
    router = seedbed.respx_router()
    with router:
        pass
    assert not router.calls
""")
    assert "5 passed" in output, output


def test_unittest_works_with_running(tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text("""
import json, unittest, urllib.request
from seedbed_mock import running

class SeedbedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.seedbed = cls.enterClassContext(running(clock="manual", task_seconds=30))

    def setUp(self):
        self.seedbed.reset()

    def test_a_wrong_key(self):
        request = urllib.request.Request(self.seedbed.url + "/api/v1/chat/credit")
        self.assertEqual(json.load(urllib.request.urlopen(request))["code"], 401)
        self.seedbed.assert_called("credit", times=1, code=401)

    def test_no_other_calls(self):
        self.assertEqual(self.seedbed.calls, [])
""")
    command = [sys.executable, "-W", "error", "-m", "unittest", "-q", "test_user"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_application_can_be_called_in_process() -> None:
    async def ask() -> list[dict[str, object]]:
        transport = httpx2.ASGITransport(create_app())
        async with httpx2.AsyncClient(transport=transport, base_url="http://seedbed") as client:
            headers = {"Authorization": "Bearer seedbed-key"}
            body = example_of(default_contract().part("request"))
            created = await client.post(default_contract().operation.path, json=body, headers=headers)
            journal = await client.get("/__seedbed/journal")
            return [created.json(), journal.json()]

    created, journal = asyncio.run(ask())
    assert created["code"] == 200
    entries = journal["entries"]
    assert isinstance(entries, list)
    assert len(entries) == 1


def test_the_plugin_imports_only_pytest() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import seedbed_mock.pytest_plugin;"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('seedbed_mock')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_importing_an_unknown_name_fails() -> None:
    with pytest.raises(ImportError, match="nonsense"):
        exec("from seedbed_mock import nonsense")  # noqa: S102
