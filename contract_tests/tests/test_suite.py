"""The suite, in a run of pytest of somebody else's project."""

import contextlib
import os
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


class TheirProject:
    """Somebody else's project, in which Seedbed is installed; its tests have names of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pytest.ini").write_text("[pytest]\npython_files = *_spec.py\npython_functions = it_*\n")

    def run(self, *words: str) -> tuple[int, str]:
        command = [sys.executable, "-W", "error", "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"]
        plain = {name: value for name, value in os.environ.items() if name not in {"CI", "SEEDBED_API_KEY"}}
        result = subprocess.run(
            [*command, *words], cwd=self.folder, capture_output=True, text=True, check=False, env=plain
        )
        return result.returncode, result.stdout + result.stderr

    def judge(self, url: str, *words: str) -> tuple[int, str]:
        return self.run("--pyargs", "seedbed_contract.suite", "--target", url, *words)


@pytest.fixture
def theirs(tmp_path: Path) -> TheirProject:
    return TheirProject(tmp_path)


def judge(theirs: TheirProject, served: Served, *words: str) -> tuple[int, str]:
    known = {
        "--key": served.key,
        "--second-key": served.second_key,
        "--signing-key": served.signing_key,
        "--fail-prompt": served.fail_prompt,
    }
    return theirs.judge(served.url, *(f"{name}={value}" for name, value in known.items() if value), *words)


def defect_named(name: str) -> SeededDefect:
    return next(defect for defect in SEEDED_DEFECTS if defect.name == name)


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["in one process", "on two workers"])
def test_the_fake_passes_with_a_test_for_each_check(
    theirs: TheirProject, seedbed: MockServer, words: tuple[str, ...]
) -> None:
    code, output = theirs.judge(seedbed.url, "--key", seedbed.key, "-rA", *words)
    assert code == 0, output
    assert all(
        f"::{check.name}" in output for check in CHECKS if not check.name.startswith(("limits", "authorisation.a"))
    )
    assert "conforms, as far as it was judged" in output
    assert "17 of 17 (refusing)" in output
    assert "SKIPPED" in output
    assert "no second key is known: give one with --second-key" in output


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["in one process", "on two workers"])
def test_an_independent_server_passes(theirs: TheirProject, words: tuple[str, ...]) -> None:
    with serve(Variant()) as served:
        code, output = judge(theirs, served, *words)
    assert code == 0, output
    assert ("nobody else" in output or "accounts.tasks" in output) == bool(words), output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a createTime that changes", ()),
        ("a createTime that changes", ("-n", "2")),
        ("letters beyond the BMP refused", ("-n", "2")),
    ],
)
def test_a_defect_fails_a_test_that_tells_all_of_it(theirs: TheirProject, name: str, words: tuple[str, ...]) -> None:
    defect = defect_named(name)
    with defect.serve() as served:
        code, output = judge(theirs, served, *words)
    assert code == 1, output
    assert any(clause in output for clause in defect.clauses), output
    assert "curl " in output
    assert "repeat with --hypothesis-seed 0" in output
    assert served.key not in output.replace(f"--key={served.key}", "")
    assert "Traceback" not in output
    assert "finding" in output.rpartition("= contract =")[2]


def test_one_check_can_be_asked_for_by_its_name(theirs: TheirProject, seedbed: MockServer) -> None:
    code, output = theirs.judge(seedbed.url, "--key", seedbed.key, "-k", "authorisation.keys")
    assert code == 0, output
    assert "1 passed" in output


def test_no_target_is_a_mistake_in_the_command_and_no_pass(theirs: TheirProject) -> None:
    code, output = theirs.run("--pyargs", "seedbed_contract.suite")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "Give its URL, such as --target http" in output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--target", "nowhere"), "is not the URL of a service"),
        (("--target", "https://example.com"), "give one with --key"),
        (("--target", "http://127.0.0.1:9", "--require", "moon"), "nothing called 'moon'"),
        (("--target", "http://127.0.0.1:9", "--max-examples", "0"), "1 or more"),
        (("--target", "http://127.0.0.1:9", "--spend", "much"), "a number of credits"),
        (("--target", "http://127.0.0.1:9", "--hypothesis-seed", "x"), "a whole number or random"),
        (("--target", "http://127.0.0.1:9", "--tx", "2*popen", "--dist", "each"), "cannot run with --dist each"),
    ],
)
def test_mistaken_options_are_told_in_a_sentence(theirs: TheirProject, words: tuple[str, ...], told: str) -> None:
    code, output = theirs.run("--pyargs", "seedbed_contract.suite", *words)
    assert code != 0
    assert told in output
    assert "Traceback" not in output


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["in one process", "on two workers"])
def test_a_dead_target_fails_every_test_in_a_sentence(theirs: TheirProject, words: tuple[str, ...]) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        code, output = theirs.judge(f"http://127.0.0.1:{held.getsockname()[1]}", *words)
    assert code == 1
    assert f"{len(CHECKS)} failed" in output
    assert "nothing answers at" in output
    assert "Start the server, or check the URL." in output
    assert "Traceback" not in output


def test_the_tests_can_be_listed_without_a_target(theirs: TheirProject) -> None:
    code, output = theirs.run("--pyargs", "seedbed_contract.suite", "--collect-only", "-q")
    assert code == 0, output
    assert f"{len(CHECKS)} tests collected" in output


def test_the_options_are_those_of_the_suite_alone(theirs: TheirProject) -> None:
    (theirs.folder / "their_spec.py").write_text("def it_works(): ...\n")
    assert "--target" not in theirs.run("--help")[1]
    assert "--key=KEY" in theirs.run("--pyargs", "seedbed_contract.suite", "--help")[1]
    code, output = theirs.run("their_spec.py")
    assert code == 0, output


def test_tests_of_their_own_run_beside_the_suite(theirs: TheirProject, seedbed: MockServer) -> None:
    (theirs.folder / "their_spec.py").write_text("def it_works(): ...\n")
    words = ("their_spec.py", "-n", "2", "-k", "works or authorisation.keys")
    code, output = theirs.judge(seedbed.url, "--key", seedbed.key, *words)
    assert code == 0, output
    assert "2 passed" in output


# What was found is kept


def _takes_a_rare_quality(self: Service, request: Any) -> None:
    given = request.get("input") if isinstance(request, dict) else None
    quality = given.get("quality") if isinstance(given, dict) else None
    if isinstance(given, dict) and isinstance(quality, str) and quality[:1] > "\uffff":
        request = {**request, "input": {**given, "quality": "basic"}}
    Service.check(self, request)


RARE = seeded("a quality that no list of cases holds", "input.quality/enum", check=_takes_a_rare_quality)
SEARCH = ("-k", "search.violations")
MANY, FEW = ("--max-examples=1500", "--hypothesis-seed=1"), ("--max-examples=10", "--hypothesis-seed=7")


@contextlib.contextmanager
def redis_profile(folder: Path) -> Iterator[str]:
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server on this machine")
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


@pytest.mark.parametrize("profile", [directory_profile, redis_profile], ids=["a directory", "Redis"])
def test_what_was_found_at_random_is_tried_first_next_time(
    tmp_path: Path, theirs: TheirProject, profile: Callable[[Path], contextlib.AbstractContextManager[str]]
) -> None:
    with profile(tmp_path) as words, RARE.serve() as served:
        assert judge(theirs, served, *SEARCH, *FEW)[0] == 0
        (theirs.folder / "conftest.py").write_text(words)
        code, output = judge(theirs, served, *SEARCH, *MANY)
        assert code == 1, output
        assert "input.quality/enum" in output
        code, output = judge(theirs, served, *SEARCH, *FEW)
        assert code == 1, output
        assert "input.quality/enum" in output
        code, output = judge(theirs, served, *SEARCH, *FEW)
        assert code == 1, "what was found is kept after it was found again"
        code, output = judge(theirs, served, "-n", "2", *FEW)
        assert code == 1, "other findings do not hide what was kept"
