"""The pytest suite, run in a project of its users."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from seedbed_contract.checks import CHECKS
from seedbed_mock import MockServer
from seedbed_mock.cli import main
from tests.minimal_service import Served, Service, serve
from tests.minimal_variants import Variant
from tests.seeded_defect import SeededDefect, seeded
from tests.seeded_defects import SEEDED_DEFECTS

PROFILE = """
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase
settings.register_profile("team", database=DirectoryBasedExampleDatabase("kept"))
settings.load_profile("team")
"""
REDIS_PROFILE = """
from hypothesis import settings
from hypothesis.extra.redis import RedisExampleDatabase
from redis import Redis
settings.register_profile("team", database=RedisExampleDatabase(Redis(unix_socket_path={socket!r})))
settings.load_profile("team")
"""


PROCESSES = [
    pytest.param((), id="in one process"),
    pytest.param(("-n", "2"), id="on two workers", marks=pytest.mark.slow),
]


class UserProject:
    """A project of a user who has installed Seedbed, with other patterns for its tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pytest.ini").write_text("[pytest]\npython_files = *_spec.py\npython_functions = it_*\n")

    def run(self, *words: str) -> tuple[int, str]:
        # pytest-asyncio warns where a project does not set its option, and a warning is an error here.
        plugins = ["-p", "no:cacheprovider", "-p", "no:asyncio"]
        command = [sys.executable, "-W", "error", "-m", "pytest", "-W", "error", *plugins]
        plain = {name: value for name, value in os.environ.items() if name not in {"CI", "SEEDBED_API_KEY"}}
        result = subprocess.run(
            [*command, *words], cwd=self.folder, capture_output=True, text=True, check=False, env=plain
        )
        return result.returncode, result.stdout + result.stderr

    def run_suite(self, url: str, *words: str) -> tuple[int, str]:
        return self.run("--pyargs", "seedbed_contract.suite", "--target", url, *words)


@pytest.fixture
def project(tmp_path: Path) -> UserProject:
    return UserProject(tmp_path)


def run_suite_on(project: UserProject, served: Served, *words: str) -> tuple[int, str]:
    known = {
        "--key": served.key,
        "--second-key": served.second_key,
        "--signing-key": served.signing_key,
        "--fail-prompt": served.fail_prompt,
    }
    return project.run_suite(served.url, *(f"{name}={value}" for name, value in known.items() if value), *words)


def defect_named(name: str) -> SeededDefect:
    return next(defect for defect in SEEDED_DEFECTS if defect.name == name)


@pytest.mark.parametrize("words", PROCESSES)
def test_the_mock_server_passes_with_one_test_for_each_check(
    project: UserProject, seedbed: MockServer, words: tuple[str, ...]
) -> None:
    code, output = project.run_suite(seedbed.url, "--key", seedbed.key, "-rA", *words)
    assert code == 0, output
    assert all(f"::{check.name}" in output for check in CHECKS if not check.name.startswith("limits"))
    assert "conforms, but " in output
    assert "17 of 17 (refusing)" in output
    assert "SKIPPED" in output
    # Its spaces give other accounts, so only the check that uses up a balance has a reason to be skipped.
    assert "pass the key of an account with a small one" in output


@pytest.mark.exhaustive
@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_an_independent_server_passes(project: UserProject, words: tuple[str, ...]) -> None:
    with serve(Variant()) as served:
        code, output = run_suite_on(project, served, *words)
    assert code == 0, output
    assert ("others use the account at the same time" in output) == bool(words), output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("a createTime that changes", (), marks=pytest.mark.slow),
        pytest.param("a createTime that changes", ("-n", "2"), marks=pytest.mark.exhaustive),
        pytest.param("letters beyond the BMP refused", ("-n", "2"), marks=pytest.mark.exhaustive),
    ],
)
def test_a_defect_fails_a_test_that_prints_the_finding(project: UserProject, name: str, words: tuple[str, ...]) -> None:
    defect = defect_named(name)
    with defect.serve() as served:
        code, output = run_suite_on(project, served, *words)
    assert code == 1, output
    assert any(clause in output for clause in defect.clauses), output
    assert "curl " in output
    assert "repeat with --hypothesis-seed 0" in output
    assert served.key not in output.replace(f"--key={served.key}", "")
    assert "Traceback" not in output
    assert "finding" in output.rpartition("= contract =")[2]


@pytest.mark.slow
def test_known_findings_fail_no_test(project: UserProject) -> None:
    defect = defect_named("one character too many")
    baseline = project.folder / "baseline.json"
    with defect.serve() as served:
        words = ["--key", served.key, "--baseline", str(baseline)]
        main(["check", served.url, *words, "--write-baseline", "--only", "requests.refused", "--quiet"])
        code, output = project.run_suite(served.url, *words, "-k", "requests.refused")
        assert code == 0, output
        assert "no new findings: 1 finding (1 known)" in output
        baseline.write_text("{")
        code, output = project.run_suite(served.url, *words)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "is not a baseline" in output


@pytest.mark.slow
def test_a_run_that_judges_nothing_does_not_pass(project: UserProject, seedbed: MockServer) -> None:
    words = ("--key", seedbed.key, "--without", "callbacks", "-k", "callbacks.delivered")
    code, output = project.run_suite(seedbed.url, *words)
    assert code == 2, output
    assert "1 skipped" in output
    assert "not checked: declared absent with --without callbacks" in output


@pytest.mark.exhaustive
def test_one_check_can_be_selected_by_its_name(project: UserProject, seedbed: MockServer) -> None:
    code, output = project.run_suite(seedbed.url, "--key", seedbed.key, "-k", "authorisation.keys")
    assert code == 0, output
    assert "1 passed" in output


def test_a_missing_target_is_a_usage_error(project: UserProject) -> None:
    code, output = project.run("--pyargs", "seedbed_contract.suite")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "Give its URL, such as --target http" in output


INVALID_OPTIONS = [
    (("--target", "https://192.0.2.1"), "Pass --key"),
    (("--target", "http://127.0.0.1:9", "--tx", "2*popen", "--dist", "each"), "cannot run with --dist each"),
    (("--target", "nowhere"), "is not a valid URL of a server"),
    (("--target", "http://127.0.0.1:9", "--require", "moon"), "Unknown capability 'moon'"),
    (("--target", "http://127.0.0.1:9", "--max-examples", "0"), "1 or more"),
    (("--target", "http://127.0.0.1:9", "--spend", "much"), "a number of credits"),
    (("--target", "http://127.0.0.1:9", "--hypothesis-seed", "x"), "an integer or random"),
]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(*case, marks=pytest.mark.slow if number < 2 else pytest.mark.exhaustive)
        for number, case in enumerate(INVALID_OPTIONS)
    ],
)
def test_an_invalid_option_is_reported(project: UserProject, words: tuple[str, ...], message: str) -> None:
    code, output = project.run("--pyargs", "seedbed_contract.suite", *words)
    assert code != 0
    assert message in output
    assert "Traceback" not in output


@pytest.mark.parametrize("words", [(), pytest.param(("-n", "2"), marks=pytest.mark.exhaustive)])
def test_an_unreachable_target_is_one_error(project: UserProject, words: tuple[str, ...]) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        code, output = project.run_suite(f"http://127.0.0.1:{held.getsockname()[1]}", *words)
    assert code == (pytest.ExitCode.TESTS_FAILED if words else pytest.ExitCode.INTERRUPTED)
    assert re.search(r"\b1 error\b", output), output
    assert "failed" not in output
    # pytest repeats the message in its summary if the line has room.
    assert output.partition("short test summary info")[0].count("no usable response from") == 1
    assert "Start the server, or check the URL." in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_the_tests_can_be_listed_without_a_target(project: UserProject) -> None:
    code, output = project.run("--pyargs", "seedbed_contract.suite", "--collect-only", "-q")
    assert code == 0, output
    assert f"{len(CHECKS)} tests collected" in output


@pytest.mark.slow
def test_the_options_exist_only_in_runs_of_the_suite(project: UserProject) -> None:
    (project.folder / "user_spec.py").write_text("def it_works(): ...\n")
    assert "--target" not in project.run("--help")[1]
    assert "--key=KEY" in project.run("--pyargs", "seedbed_contract.suite", "--help")[1]
    code, output = project.run("user_spec.py")
    assert code == 0, output


@pytest.mark.slow
def test_other_tests_run_next_to_the_suite(project: UserProject, seedbed: MockServer) -> None:
    (project.folder / "user_spec.py").write_text("def it_works(): ...\n")
    words = ("user_spec.py", "-n", "2", "-k", "works or authorisation.keys")
    code, output = project.run_suite(seedbed.url, "--key", seedbed.key, *words)
    assert code == 0, output
    assert "2 passed" in output


# The example database


def _accept_a_rare_quality(self: Service, request: Any) -> None:
    given = request.get("input") if isinstance(request, dict) else None
    quality = given.get("quality") if isinstance(given, dict) else None
    if isinstance(given, dict) and isinstance(quality, str) and quality[:1] > "\uffff":
        request = {**request, "input": {**given, "quality": "basic"}}
    Service.check(self, request)


RARE = seeded("a quality outside the list of cases", "input.quality/enum", check=_accept_a_rare_quality)
SEARCH = ("-k", "search.violations")
MANY, FEW = ("--max-examples=1500", "--hypothesis-seed=1"), ("--max-examples=10", "--hypothesis-seed=7")


@contextlib.contextmanager
def redis_profile(folder: Path) -> Iterator[str]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    socket_path = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket_path), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        next(line for line in server.stdout if "ready to accept connections" in line.lower())
        try:
            yield REDIS_PROFILE.format(socket=str(socket_path))
        finally:
            server.terminate()


@contextlib.contextmanager
def directory_profile(_: Path) -> Iterator[str]:
    yield PROFILE


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param(directory_profile, id="a directory", marks=pytest.mark.exhaustive),
        pytest.param(redis_profile, id="Redis", marks=pytest.mark.exhaustive),
    ],
)
def test_random_findings_are_stored_and_tried_first_in_the_next_run(
    tmp_path: Path, project: UserProject, profile: Callable[[Path], contextlib.AbstractContextManager[str]]
) -> None:
    with profile(tmp_path) as words, RARE.serve() as served:
        assert run_suite_on(project, served, *SEARCH, *FEW)[0] == 0
        (project.folder / "conftest.py").write_text(words)
        code, output = run_suite_on(project, served, *SEARCH, *MANY)
        assert code == 1, output
        assert "input.quality/enum" in output
        code, output = run_suite_on(project, served, *SEARCH, *FEW)
        assert code == 1, output
        assert "input.quality/enum" in output
        code, output = run_suite_on(project, served, *SEARCH, *FEW)
        assert code == 1, "a finding stays stored after it was found again"
        code, output = run_suite_on(project, served, "-n", "2", *FEW)
        assert code == 1, "other findings do not hide stored ones"
