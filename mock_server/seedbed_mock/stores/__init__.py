"""Where tasks, balances and callbacks in flight are kept."""
