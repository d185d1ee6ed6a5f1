"""A seeded defect: the independent server with some of its methods replaced by defective ones."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from seedbed_schemas.clauses import Level
from tests.minimal_service import Served, Service, serve
from tests.minimal_variants import Variant

PLAIN: Final = Variant()
OBSERVED: Final = Variant(name="observed", dialect="observed", blanks=True)
MIRROR: Final = Variant(name="mirror", http_status="mirror")


@dataclass(frozen=True)
class SeededDefect:
    """One defective server.

    Attributes:
        name: A short description of the defect.
        clauses: Ids of the clauses that the defect violates. The checker finds the defect if it reports one of them.
        variant: The lawful choices of the server.
        hooks: The defective methods by name.
        level: The level at which the checker has to find the defect.
        known: What the user of the checker says of the server, if not the truth that the variant knows.
    """

    name: str
    clauses: tuple[str, ...]
    variant: Variant
    hooks: Mapping[str, Callable[..., Any]]
    level: Level = "error"
    known: Mapping[str, Any] = field(default_factory=dict)

    def serve(self, **choices: Any) -> AbstractContextManager[Served]:
        """Serve with the defect. Choices such as ``seconds`` replace those of the variant."""
        return serve(replace(self.variant, **choices), self.service_class())

    def service_class(self) -> type[Service]:
        return type("Defective", (Service,), dict(self.hooks))


def seeded(
    name: str,
    *clauses: str,
    variant: Variant = PLAIN,
    known: Mapping[str, Any] | None = None,
    **hooks: Callable[..., Any],
) -> SeededDefect:
    return SeededDefect(name, clauses, variant, hooks, known=known or {})


def careless(
    name: str,
    *clauses: str,
    variant: Variant = PLAIN,
    known: Mapping[str, Any] | None = None,
    **hooks: Callable[..., Any],
) -> SeededDefect:
    """Return a defect that is lawful, so that the checker has to report it as a warning and nothing as an error."""
    return SeededDefect(name, clauses, variant, hooks, "warning", known or {})


def reads_otherwise(read: Callable[[str], Any]) -> Callable[..., Any]:
    """Return a method that parses what is not JSON with a more lenient parser."""

    def load(self: Service, text: str) -> Any:
        try:
            return Service.load(self, text)
        except ValueError:
            return read(text)

    return load
