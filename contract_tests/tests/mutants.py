"""Every mutant, over every subject of the contract."""

from typing import Final

from tests.mutant import Mutant
from tests.mutants_bodies import BODIES
from tests.mutants_fields import FIELDS
from tests.mutants_values import VALUES

MUTANTS: Final[tuple[Mutant, ...]] = (*FIELDS, *VALUES, *BODIES)
