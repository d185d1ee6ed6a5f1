"""A mutant: the independent server with one of its methods broken."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.minimal_choices import Variant
from tests.minimal_service import Served, Service, serve

PLAIN: Final = Variant()
OBSERVED: Final = Variant(name="observed", dialect="observed", blanks=True)
MIRROR: Final = Variant(name="mirror", http_status="mirror")


@dataclass(frozen=True)
class Mutant:
    """One defective server.

    Attributes:
        name: What is wrong with it.
        clauses: Ids of clauses; a finding that names one of them names the defect.
        variant: The lawful choices beside the defect.
        hooks: The methods that are broken, by name.
    """

    name: str
    clauses: tuple[str, ...]
    variant: Variant
    hooks: Mapping[str, Callable[..., Any]]

    def serve(self, **choices: Any) -> AbstractContextManager[Served]:
        """Serve with the defect; choices, such as ``seconds``, replace those of the variant."""
        return serve(replace(self.variant, **choices), self.service_class())

    def service_class(self) -> type[Service]:
        return type("Broken", (Service,), dict(self.hooks))


def broken(name: str, *clauses: str, variant: Variant = PLAIN, **hooks: Callable[..., Any]) -> Mutant:
    return Mutant(name, clauses, variant, hooks)
