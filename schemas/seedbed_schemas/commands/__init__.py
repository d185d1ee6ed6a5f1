"""The subcommands of this room: ``derive``, ``clauses`` and ``openapi``."""

from seedbed_schemas.commands._clauses import clauses
from seedbed_schemas.commands._derive import derive
from seedbed_schemas.commands._openapi import openapi

__all__ = ["clauses", "derive", "openapi"]
