"""A page of the vendor's documentation in, a contract out."""

from seedbed_schemas.derive.facts import PageError
from seedbed_schemas.derive.tables import read_tables
from seedbed_schemas.derive.writer import render, write_contract

__all__ = ["PageError", "derive"]


def derive(page: str) -> str:
    """Return the text of the contract file that a page makes.

    Args:
        page: The page as Markdown.

    Raises:
        PageError: The page cannot be read; the message is one sentence that names what was missed.
    """
    return render(write_contract(read_tables(page)))
