"""Stores: where tasks, balances and pending callbacks are kept, in memory or in an SQLite file."""
