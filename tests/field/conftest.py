"""The `pusher` command in a project of its own, as in tests/unit."""

from tests.unit.conftest import door, key, project, pusher

__all__ = ["door", "key", "project", "pusher"]
