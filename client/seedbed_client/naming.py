"""Names of the files that images are saved in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from seedbed_schemas.files import check_writable

from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLACE: Final = re.compile(r"\{(task_id|index|prompt)(?::0(\d))?\}")
_LONGEST_PROMPT: Final = 40
BY_TASK: Final = "{task_id}.jpg"


@dataclass(frozen=True, slots=True)
class Naming:
    """A pattern such as ``images/{index:03}-{prompt}.jpg``.

    Args:
        pattern: A path in which ``{task_id}``, ``{index}`` and ``{prompt}`` stand for what they name.

    Raises:
        ConfigurationError: The pattern names something else.
    """

    pattern: str

    def __post_init__(self) -> None:
        if set("{}") & set(_PLACE.sub("", self.pattern)):
            raise ConfigurationError(
                f"The name {self.pattern!r} has braces that stand for nothing: there are {{task_id}}, {{index}}, "
                "{index:03} and {prompt}."
            )

    def path(self, index: int, prompt: str, task_id: str = "task") -> Path:
        """Return the file of an image."""
        words = {"task_id": _plain(task_id), "index": str(index), "prompt": _slug(prompt)}
        return Path(_PLACE.sub(lambda place: words[place[1]].rjust(int(place[2] or 0), "0"), self.pattern))

    def check(self, prompts: Sequence[str]) -> None:
        """Find out before anything costs whether the images can be saved.

        Raises:
            ConfigurationError: Two images would have the same name.
            OSError: A file cannot be written.
        """
        paths = [self.path(index, prompt) for index, prompt in enumerate(prompts, start=1)]
        if "{task_id}" not in self.pattern and len(set(paths)) < len(paths):
            raise ConfigurationError(
                f"The name {self.pattern!r} is that of several images: put {{index}} or {{task_id}} into it."
            )
        for path in paths:
            check_writable(path)


def numbered(path: Path, number: int) -> Path:
    """Return where to save the image of that number of a task; the first is where it was asked for."""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def _plain(task_id: str) -> str:
    """Return what is fit for a file in this folder, whatever the service put into the task's name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", task_id)


def _slug(prompt: str) -> str:
    return re.sub(r"[\W_]+", "-", prompt)[:_LONGEST_PROMPT].strip("-") or "image"
