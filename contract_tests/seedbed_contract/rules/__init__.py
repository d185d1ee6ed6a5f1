"""Rules for one message at a time, and for a task with its records."""
