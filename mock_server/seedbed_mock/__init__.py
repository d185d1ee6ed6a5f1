"""A local Seedream job API: every documented answer, no network, no cost."""
