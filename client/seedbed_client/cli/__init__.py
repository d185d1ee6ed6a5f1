"""The subcommands ``seedbed generate``, ``seedbed task`` and ``seedbed credits``."""
