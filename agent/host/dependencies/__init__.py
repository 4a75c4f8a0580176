"""The dependencies of a release: what it asks for, how that is installed, and the venvs that come of it."""
