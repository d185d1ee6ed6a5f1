"""Every mutant, over every subject of the contract."""

from typing import Final

from tests.mutant import Mutant
from tests.mutants_accounts import ACCOUNTS
from tests.mutants_answers import ANSWERS
from tests.mutants_bodies import BODIES
from tests.mutants_callbacks import CALLBACKS
from tests.mutants_fields import FIELDS
from tests.mutants_keys import KEYS
from tests.mutants_lives import LIVES
from tests.mutants_offers import OFFERS
from tests.mutants_records import RECORDS
from tests.mutants_signatures import SIGNATURES
from tests.mutants_values import VALUES

MUTANTS: Final[tuple[Mutant, ...]] = (
    *(*FIELDS, *VALUES, *BODIES, *ANSWERS, *KEYS),
    *(*RECORDS, *LIVES, *ACCOUNTS, *CALLBACKS, *SIGNATURES, *OFFERS),
)
