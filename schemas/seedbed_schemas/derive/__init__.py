"""A page of the vendor's documentation in, a contract out."""

from seedbed_schemas.derive.facts import PageError
from seedbed_schemas.derive.pages import LONGEST, Derivation, derive, derive_page

__all__ = ["LONGEST", "Derivation", "PageError", "derive", "derive_page"]
