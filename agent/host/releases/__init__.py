"""Releases on disk: the store, their content, unpacking, and their venvs."""
