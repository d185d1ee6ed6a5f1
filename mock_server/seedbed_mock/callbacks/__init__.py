"""Callbacks: the POST requests that the server sends when a task ends, and the addresses that may receive them."""
