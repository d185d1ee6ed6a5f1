"""No code block of a Markdown file goes unchecked: it is run, compared or parsed, or it is a sample with a reason."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from seedbed_mock.cli import make_app
from seedbed_schemas.documentation import topic_of

ROOT = Path(__file__).parents[2]
FILES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md")),
    *(ROOT / name / "README.md" for name in ("examples", "benchmarks")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
RUN = {"console", "python", "json", "yaml", "toml", "rules"}
"""Languages whose blocks in README.md and docs/ test_docs.py runs or parses."""

SAMPLES = {
    "ARCHITECTURE.md:vendor page": "a diagram",
    "CONTRIBUTING.md:unknown option": "an error text, which a test below compares",
    "CONTRIBUTING.md:check: ignore": "a commit message",
    "docs/callbacks.md:$ seedbed callbacks test": "the times differ from run to run; test_callback_examiner.py runs it",
    "docs/commands.md:seedbed serve: cannot listen": "an error text, which a test below compares",
    "docs/deployment.md:docker build": "needs Docker; .ci/container builds the image without it",
    "docs/deployment.md:docker compose": "needs Docker; test_deployment_files.py checks the file",
    "docs/deployment.md:pip install": "needs a Redis server on its port; test_fleet.py starts such servers",
    "docs/deployment.md:seedbed serve --workers": "needs a Redis server on its port; test_workers.py starts workers",
    "docs/drill.md:$ seedbed drill": "takes a minute; test_drill_examples.py runs the examples",
    "docs/mock-server.md:21:04": "a log with times; test_call_log.py compares such lines",
    "docs/performance.md:benchmarks/": "takes fifteen minutes",
    "docs/performance.md:python benchmarks/hostile.py": "takes twenty minutes; the slow tests run short forms",
    "docs/reconcile.md:$ seedbed reconcile": "needs a broken run; test_reconcile.py makes such runs",
    "docs/recording.md:Spent": "the end of a session with the real service; test_proxy.py compares such reports",
}
"""Blocks that are neither run nor compared as a whole, by the file and the beginning of the block, and why."""

NOT_RUN = {
    "pip install": "installs packages over the network",
    "python3 -m venv": "creates an environment that the test does not need",
    "source .venv": "activates that environment",
    "pytest -m": "takes minutes",
    "pre-commit": "changes the repository",
    "export SEEDREAM_SIGNING_KEY": "sets a variable for the next command",
}
"""How other lines of the files outside of the site begin that no test runs, and why."""


@dataclass(frozen=True)
class Block:
    """A fenced block, and the language of the block directly before it."""

    file: str
    line: int
    language: str
    code: str
    before: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def sample(self) -> str | None:
        """The entry of ``SAMPLES`` that the block has."""
        start = self.code.lstrip()
        return next(
            (key for key in SAMPLES if self.file == key.split(":")[0] and start.startswith(key.split(":", 1)[1])), None
        )

    @property
    def commands(self) -> list[str]:
        """The ``seedbed`` commands that the block shows."""
        lines = self.code.replace("\\\n", " ").splitlines()
        starts = [line.removeprefix("$ ") for line in lines if line.startswith(("$ seedbed ", "seedbed "))]
        is_list_of_texts = self.file == "docs/troubleshooting.md" and self.language == "text"
        return [] if is_list_of_texts else [line for line in starts if not re.match(r"seedbed [a-z ]+: ", line)]


def blocks_of(path: Path) -> list[Block]:
    text, found = path.read_text(encoding="utf-8"), []
    before, end = "", 0
    for match in re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE):
        language = before if not text[end : match.start()].strip() else ""
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(path.relative_to(ROOT).as_posix(), line, match[2], match[3], language))
        before, end = match[2], match.end()
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(found), path
    return found


BLOCKS = [block for path in FILES for block in blocks_of(path)]
OUTSIDE = [block for block in BLOCKS if not block.file.startswith("docs/") and block.file != "README.md"]


def is_checked_elsewhere(block: Block) -> bool:
    """Whether test_docs.py runs or compares a block, or test_troubleshooting.py compares its texts."""
    if block in OUTSIDE:
        return False
    is_output = block.language == "text" and block.before in {"console", "python"}
    return block.language in RUN or is_output or block.file == "docs/troubleshooting.md"


def test_every_block_is_checked_or_is_a_sample_with_a_reason() -> None:
    unknown = [block for block in BLOCKS if not is_checked_elsewhere(block) and block.language != "console"]
    assert [str(block) for block in unknown if block.sample is None] == []
    assert sorted({block.sample for block in unknown if block.sample}) == sorted(SAMPLES)


@pytest.mark.slow
def test_the_commands_of_all_blocks_are_ones_that_the_program_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seedbed.toml").touch()  # a config file is read with the options
    monkeypatch.chdir(tmp_path)
    app: Any = make_app()
    commands = [command for block in BLOCKS for command in block.commands]
    assert len(commands) > 80
    for command in commands:
        plain = re.sub(r"\s[|>&].*| # .*", "", command)
        app.parse_args(shlex.split(plain)[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("block", [block for block in OUTSIDE if block.language == "console"], ids=str)
def test_the_commands_outside_of_the_site_are_parsed_or_have_a_reason(block: Block) -> None:
    lines = block.code.splitlines()
    assert [line for line in lines if not line.startswith(("seedbed ", *NOT_RUN))] == []


def test_the_error_texts_of_samples_are_those_of_the_program() -> None:
    (error,) = (block for block in BLOCKS if block.sample == "docs/commands.md:seedbed serve: cannot listen")
    text, topic = error.code.splitlines()
    assert topic == f"docs: {topic_of(text)}"
    (rule,) = (block for block in BLOCKS if block.sample == "CONTRIBUTING.md:unknown option")
    assert topic_of(rule.code) == "troubleshooting#fault-rule"


def test_the_files_that_samples_name_exist() -> None:
    named = [
        name
        for block in BLOCKS
        if block.sample
        for name in re.findall(r"(?:benchmarks|examples|deploy)/[\w.]+", block.code)
    ]
    assert named
    assert [name for name in named if name != "benchmarks/history.json" and not (ROOT / name).exists()] == []
    tests = re.findall(r"test_\w+\.py", " ".join(SAMPLES.values()))
    assert [name for name in tests if not (Path(__file__).parent / name).exists()] == []
