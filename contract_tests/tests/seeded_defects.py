"""All seeded defects."""

from typing import Final

from tests.seeded_defect import SeededDefect
from tests.seeded_defects_accounts import ACCOUNTS
from tests.seeded_defects_bodies import BODIES
from tests.seeded_defects_callbacks import CALLBACKS
from tests.seeded_defects_capabilities import CAPABILITIES
from tests.seeded_defects_careless import CARELESS
from tests.seeded_defects_fields import FIELDS
from tests.seeded_defects_gaps import GAPS
from tests.seeded_defects_keys import KEYS
from tests.seeded_defects_life_cycle import LIFE_CYCLE
from tests.seeded_defects_records import RECORDS
from tests.seeded_defects_responses import RESPONSES
from tests.seeded_defects_signatures import SIGNATURES
from tests.seeded_defects_values import VALUES

SEEDED_DEFECTS: Final[tuple[SeededDefect, ...]] = (
    *(*FIELDS, *VALUES, *BODIES, *RESPONSES, *KEYS),
    *(*RECORDS, *LIFE_CYCLE, *ACCOUNTS, *CALLBACKS, *SIGNATURES, *CAPABILITIES, *GAPS, *CARELESS),
)
