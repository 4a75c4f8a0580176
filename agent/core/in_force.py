"""What a changed configuration file changes while the agent runs, and what waits for its next start.

Invariant: what a process holds open, or what every release of the app lies in, does not change under it.
"""

from typing import Any

from agent.core.config.app import AppConfig

NEEDS_SERVE = ("path", "user", "listen", "subscribe")
"""The keys that are read when the agent starts, and never again."""


def said(config: AppConfig) -> dict[str, Any]:
    """What a file says. A key that has its default there is said all the same: it overrules a release."""
    return config.model_dump(mode="json", exclude_unset=True)


def waiting(now: AppConfig, in_force: AppConfig) -> list[str]:
    """The keys of which the file says something that is in force only after the next start of the agent."""
    return [key for key in NEEDS_SERVE if getattr(now, key) != getattr(in_force, key)]


def adopted(now: AppConfig, in_force: AppConfig) -> AppConfig:
    """What is in force when `now` was read from the file."""
    return now.model_copy(update={key: getattr(in_force, key) for key in waiting(now, in_force)})


def difference(now: AppConfig, in_force: AppConfig, *, file: str) -> str:
    """How the file is not what is in force, in words; empty if it is."""
    if keys := waiting(now, in_force):
        named = ", ".join(f"`{key}`" for key in keys)
        return f"{file} has another {named} than is in force: to change that, run `serve` again"
    if said(now) != said(in_force):
        return f"{file} was changed since the agent read it: the next deployment reads it"
    return ""
