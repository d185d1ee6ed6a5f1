"""The files that run the mock server elsewhere: the GitHub Action, compose.yaml and the Dockerfile."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml12
from seedbed_mock.cli import make_app
from seedbed_mock.options import ServerOptions
from seedbed_schemas import job_api

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ACTION: Any = yaml12.parse_yaml((ROOT / "action.yml").read_text(encoding="utf-8"))
COMPOSE: Any = yaml12.parse_yaml((ROOT / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
INSTALL, START = ACTION["runs"]["steps"]

needs_bash = pytest.mark.skipif(
    shutil.which("bash") is None or sys.platform == "win32", reason="the steps are scripts of bash"
)


class Runner:
    """Runs steps of the Action as a runner of GitHub does.

    Args:
        folder: Folder for what the steps write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "RUNNER_TEMP": str(folder),
        }
        for name in ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH"):
            (folder / name).touch()
            self.environment[name] = str(folder / name)

    def run(self, step: dict[str, Any], **inputs: str) -> subprocess.CompletedProcess[str]:
        given = {name: each.get("default", "") for name, each in ACTION["inputs"].items()} | inputs
        values = {"github.action_path": str(ROOT), **{f"inputs.{name}": value for name, value in given.items()}}
        variables = {name: re.sub(r"\$\{\{ (.*?) \}\}", lambda m: values[m[1]], v) for name, v in step["env"].items()}
        script = self.folder / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        added = (self.folder / "GITHUB_PATH").read_text(encoding="utf-8").split("\n")
        path = os.pathsep.join([*filter(None, added[::-1]), self.environment["PATH"]])
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.folder,
            env={**self.environment, **variables, "PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def written(self, name: str) -> dict[str, str]:
        lines = (self.folder / name).read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def seedbed(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "import sys; from seedbed_mock.__main__ import command; sys.exit(command())"]
        environment = {**self.environment, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(tmp_path)
    yield runner
    runner.seedbed("stop", "--all", "--timeout", "2")


@needs_bash
def test_the_action_starts_a_server_that_its_outputs_name(runner: Runner) -> None:
    done = runner.run(START, key="my-key:credits=1000", arguments="--task-seconds 0 --tls --allow-host 'app.test'")
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = runner.written("GITHUB_OUTPUT")
    assert outputs.keys() == ACTION["outputs"].keys()
    assert all(f"steps.{START['id']}.outputs.{name} " in each["value"] for name, each in ACTION["outputs"].items())
    assert runner.written("GITHUB_ENV") == {"SEEDBED_BASE_URL": outputs["url"]}
    assert Path(outputs["ca"]).read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")
    headers = {"Authorization": f"Bearer {outputs['key']}", "Host": "app.test"}
    credit = httpx2.get(outputs["url"] + job_api().credit.path, headers=headers, trust_env=False)
    assert credit.json()["data"] == 1000
    secure = outputs["url"].replace("http:", "https:")
    assert runner.seedbed("health", secure, "--ca", outputs["ca"]).returncode == 0
    assert runner.seedbed("health", secure).returncode == 1


@needs_bash
@pytest.mark.slow
def test_the_action_has_no_certificate_without_tls(runner: Runner) -> None:
    assert runner.run(START).returncode == 0
    outputs = runner.written("GITHUB_OUTPUT")
    assert (outputs["ca"], outputs["key"]) == ("", "seedbed-key")


@needs_bash
@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        pytest.param({"arguments": "$(touch pwned) `touch pwned`; touch pwned"}, "touch", marks=pytest.mark.slow),
        pytest.param({"arguments": "--no-such-flag"}, "no-such-flag", marks=pytest.mark.exhaustive),
        pytest.param({"arguments": "--task-seconds 'x"}, "No closing quotation", marks=pytest.mark.exhaustive),
        pytest.param({"port": "x; touch pwned"}, "is not a whole number", marks=pytest.mark.exhaustive),
        pytest.param({"key": "a b"}, "Invalid key", marks=pytest.mark.exhaustive),
    ],
)
def test_a_wrong_input_fails_the_step_and_runs_nothing(runner: Runner, inputs: dict[str, str], reason: str) -> None:
    done = runner.run(START, **inputs)
    assert done.returncode != 0
    assert reason in done.stderr
    assert not (runner.folder / "pwned").exists()
    assert runner.written("GITHUB_OUTPUT") == {}


@needs_bash
@pytest.mark.exhaustive
def test_the_action_installs_the_version_beside_it(runner: Runner) -> None:
    # Without a network: what the project needs comes from the environment of the tests.
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    packages = [entry for entry in sys.path if "site-packages" in entry]
    runner.environment |= {**offline, "PYTHONPATH": os.pathsep.join(packages)}
    done = runner.run(INSTALL, python=sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (runner.folder / "GITHUB_PATH").read_text(encoding="utf-8").split()
    version = subprocess.run(
        [f"{folder}/seedbed", "--version"], env=runner.environment, capture_output=True, check=True
    )
    assert re.fullmatch(rb"\d+\.\d+\.\d+\n", version.stdout)
    done = runner.run(START)
    assert done.returncode == 0, done.stdout + done.stderr


# Containers


def options_of(command: str) -> set[str]:
    """Return the variables of the options of a command."""
    arguments = make_app()[command].assemble_argument_collection()
    names = {name for each in arguments if each.parse for name in each.names if name.startswith("--")}
    return {f"SEEDBED_{command.upper()}_{name[2:].upper().replace('-', '_')}" for name in names}


def test_the_variables_of_the_container_files_are_options() -> None:
    used = set(re.findall(r"\bSEEDBED_(?:SERVE|HEALTH)_\w+", DOCKERFILE + json.dumps(COMPOSE)))
    assert len(used) > 5
    assert used <= options_of("serve") | options_of("health")


def test_the_image_copies_what_the_build_needs_and_nothing_else() -> None:
    copied = [path for line in re.findall(r"^COPY (?!--)(.*)$", DOCKERFILE, re.MULTILINE) for path in line.split()[:-1]]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert all((ROOT / path).exists() for path in copied)
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(copied)
    packages = re.findall(
        r'^  "(\w+/seedbed_\w+)",$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(packages) <= set(copied)


def test_the_image_runs_as_a_user_without_a_shell_around_the_server() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    commands = {
        kind: re.findall(rf"{kind}[^\[\n]*(\[.*\])$", last, re.MULTILINE) for kind in ("ENTRYPOINT", "HEALTHCHECK")
    }
    assert json.loads(commands["ENTRYPOINT"][0]) == ["seedbed"]
    assert json.loads(commands["HEALTHCHECK"][0]) == ["seedbed", "health"]
    assert json.loads(re.findall(r"^CMD (.*)$", last, re.MULTILINE)[0]) == ["serve"]


@needs_bash
@pytest.mark.slow
def test_the_app_of_the_compose_file_works_with_its_server(runner: Runner) -> None:
    services = COMPOSE["services"]
    image = dict(re.findall(r"(SEEDBED_\w+)=(\S+)", DOCKERFILE))
    # Compose fills these from the environment of the user, who has set none.
    given = {
        name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for name, value in services["seedbed"]["environment"].items()
    }
    ready = str(runner.folder / "ready.json")
    own = {"SEEDBED_SERVE_READY_FILE": ready, "SEEDBED_HEALTH_READY_FILE": ready, "SEEDBED_SERVE_HOST": "127.0.0.1"}
    runner.environment |= {**image, **given, **own, "SEEDBED_SERVE_TASK_SECONDS": "0"}
    started = runner.seedbed("serve", "--daemon", "--port", "0")
    assert started.returncode == 0, started.stderr
    assert runner.seedbed("health").returncode == 0
    url = json.loads(Path(ready).read_bytes())["url"]
    app = services["app"]
    assert app["environment"]["SEEDBED_BASE_URL"] == "http://seedbed:8721"
    assert services["seedbed"]["ports"][0].endswith(":8721")
    command = [part.replace("/tmp", str(runner.folder)) for part in app["command"]]  # noqa: S108 (of the container)
    done = runner.seedbed(*command, "--url", url)
    assert done.returncode == 0, done.stderr
    assert (runner.folder / "hill.jpg").read_bytes().startswith(b"\xff\xd8")
    assert app["depends_on"]["seedbed"]["condition"] == "service_healthy"
    assert services["redis"]["profiles"] == ["redis"]


def can_unshare() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "true"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_the_server_as_process_1(number: signal.Signals) -> None:
    if not can_unshare():
        pytest.skip("this system makes no PID namespaces for this user")
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    server = [sys.executable, "-c", "import os; print(os.getpid(), flush=True)\n" + SERVE_AS_IT_IS]
    with subprocess.Popen([*command, *server], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "1\n"
        assert process.stdout.readline().startswith("Seedbed is ready")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
        os.kill(int(children[0]), number)
        assert process.wait(20) == 0


SERVE_AS_IT_IS = "import sys; from seedbed_mock.__main__ import command; sys.exit(command(['serve', '--port', '0']))"


def test_the_files_of_a_fleet_use_options_and_files_that_exist() -> None:
    folder = ROOT / "deploy"
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("compose.yaml", "kubernetes.yaml")]
    used = set(re.findall(r"\bSEEDBED_(?:SERVE|HEALTH)_\w+", "".join(texts)))
    assert len(used) >= 4
    assert used <= options_of("serve")
    document: Any = yaml12.parse_yaml(texts[0])
    compose = document["services"]
    assert compose["seedbed"]["deploy"]["replicas"] == 3
    assert ServerOptions(db=compose["seedbed"]["environment"]["SEEDBED_SERVE_DB"]).has_fleet
    assert (folder / compose["seedbed"]["build"] / "Dockerfile").exists()
    mounted = [each.partition(":")[0] for each in compose["balancer"]["volumes"]]
    assert all((folder / each).exists() for each in mounted)
    for redis in (" ".join(compose["redis"]["command"]), texts[1]):
        assert "--appendonly yes --appendfsync everysec --maxmemory-policy noeviction" in redis
    parts: list[Any] = [yaml12.parse_yaml(part) for part in texts[1].split("\n---\n")]
    assert [part["kind"] for part in parts] == ["Secret", "Deployment", "Service", "StatefulSet", "Service"]
    secret, deployment = parts[0]["stringData"], parts[1]["spec"]
    assert deployment["replicas"] == 3
    assert ServerOptions(db=secret["db"]).has_fleet
    [container] = deployment["template"]["spec"]["containers"]
    keys = [each["valueFrom"]["secretKeyRef"]["key"] for each in container["env"] if "valueFrom" in each]
    assert set(keys) <= set(secret)
