"""The examples of the README, run as they are printed."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from seedbed_mock import running
from seedbed_mock.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PROGRAMS = [
    (code, after if kind == "text" else "")
    for (language, code), (kind, after) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True)
    if language == "python"
]


@pytest.mark.parametrize(("code", "output"), PROGRAMS, ids=lambda text: text.split("\n")[0][:40])
def test_a_program_does_what_the_readme_says(code: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "<readme>", "exec"), {"__name__": "readme"})  # noqa: S102
    assert capsys.readouterr().out == output


def test_the_first_image_is_saved_as_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (command,) = (code for _, code in BLOCKS if code.startswith("seedbed generate"))
    with running(task_seconds=0) as server:
        monkeypatch.setenv("SEEDBED_BASE_URL", server.url)
        assert main(shlex.split(command)[1:]) == 0
    with Image.open("hill.jpg") as image:
        assert f"{image.width} × {image.height} pixels" in README


def test_the_two_commands_that_set_everything_up_are_in_the_readme() -> None:
    commands = [code.strip() for language, code in BLOCKS if language == "console"]
    assert "pip install . && seedbed serve" in commands
    assert "pip install -e '.[dev]' && pytest" in commands
