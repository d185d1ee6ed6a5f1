"""The control API: what a test may ask and tell a fake beyond what the real service knows."""
