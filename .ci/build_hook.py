"""A hook of the build: a wheel contains the pages of docs/, which ``seedbed docs`` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DocsBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Add the pages to a wheel, but not to an editable one, which finds them in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files to add.

        Args:
            version: ``standard`` or ``editable``.
            build_data: What the wheel is made from.
        """
        if version != "editable":
            for page in sorted(Path(self.root, "docs").glob("*.md")):
                build_data["force_include"][str(page)] = f"seedbed_schemas/docs/{page.name}"
