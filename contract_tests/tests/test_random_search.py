import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase
from seedbed_contract.checks.random_search import set_database_key


def test_hypothesis_stores_the_examples_of_a_search_under_its_key() -> None:
    """Fails if a new version of Hypothesis no longer reads ``_hypothesis_internal_database_key``."""
    database = InMemoryExampleDatabase()

    @settings(database=database)
    @given(st.integers())
    def search(number: int) -> None:
        assert number < 10

    set_database_key(search, b"seedbed/some.check")
    with pytest.raises(AssertionError):
        search()
    assert list(database.fetch(b"seedbed/some.check"))
