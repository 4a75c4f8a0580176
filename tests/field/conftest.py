"""The `pusher` command in a project of its own, as in tests/unit; and hosts, as in tests/deploy."""

from tests.deploy.conftest import host, host_off
from tests.unit.conftest import door, project, pusher

__all__ = ["door", "host", "host_off", "project", "pusher"]
