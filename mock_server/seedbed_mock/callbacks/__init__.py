"""Callbacks: what is POSTed when a task has ended, to whom, how often, and what came of it."""
