"""The subcommands of this room: ``derive`` and ``clauses``."""

from seedbed_schemas.commands._clauses import clauses
from seedbed_schemas.commands._derive import derive

__all__ = ["clauses", "derive"]
