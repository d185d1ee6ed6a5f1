"""From the words of a user to a fake that is ready to be served: settings, store and clock put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seedbed_mock.app import create_app
from seedbed_mock.flags import Flags
from seedbed_mock.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedbed_schemas import Contract
    from starlette.applications import Starlette

    from seedbed_mock.clock import Clock
    from seedbed_mock.flags import Words
    from seedbed_mock.settings import ClockKind
    from seedbed_mock.stores.store import Store


def assemble(flags: Flags, *, clock: Clock | None = None, contracts: Iterable[Contract] = ()) -> Starlette:
    """Return a fake that plays as it is told.

    Args:
        flags: What it is told.
        clock: What time it is; the clock of the flags where there is none.
        contracts: Contracts of models to play beside the shipped one, or in its place.

    Raises:
        SettingsError: A word cannot be used.
        StoreError: The file of the store cannot be used.
    """
    settings = flags.settings()
    store = _open_store(flags)
    try:
        return create_app(settings, clock=clock or flags.open_clock(store), contracts=contracts, store=store)
    except BaseException:
        store.close()
        raise


def app_of(words: Words, clock: Clock | ClockKind, contracts: Iterable[Contract]) -> Starlette:
    """Return a fake that plays as a Python program tells it; see :func:`assemble`."""
    if isinstance(clock, str):
        return assemble(Flags.of(words, clock), contracts=contracts)
    return assemble(Flags.of(words), clock=clock, contracts=contracts)


def _open_store(flags: Flags) -> Store:
    if flags.db is None:
        return MemoryStore(flags.keep_tasks)
    from seedbed_mock.stores.sqlite import SqliteStore  # noqa: PLC0415 (most runs need no database)

    return SqliteStore(flags.db, flags.keep_tasks)
