"""The versions of the CLI and of an agent: whether they differ, and who has to be upgraded."""

from collections.abc import Iterator

from pusher import __version__


def skew(agent: object, *, own: str = __version__, host: str = "the host") -> Iterator[str]:
    """The line about an agent of another version than this CLI; none if they are equal, or its is not known."""
    if not isinstance(agent, str) or agent == own or not (theirs := _numbers(agent)):
        return
    older = theirs < _numbers(own)
    hint = f"upgrade the package pusher-agent on {host}" if older else "upgrade pusher on this machine"
    yield f"versions: the agent is {agent}, this pusher is {own}; both work together, but {hint}"


def _numbers(version: str) -> list[int]:
    parts = version.split(".")
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else []
