"""The control API under ``/__seedbed``: it lets tests inspect and change the mock server.

The real service has no such API.
"""
