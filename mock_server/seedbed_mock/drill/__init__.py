"""The drill: it runs a program against scenarios and says what it would have lost at the real service."""
