"""What a deployment of v3 over v1 and v2 leaves when it is interrupted anywhere, and how an agent recovers it."""

import asyncio
from pathlib import Path
from typing import Any

from agent.host.releases.store import ReleaseStore
from agent.host.storage.snapshot import snapshot
from tests.host import APP, Host, running

SETTINGS: dict[str, Any] = {"shared_paths": ["uploads", "a/of/users"], "keep_releases": 1, "start": "app"}


def files(version: str) -> dict[str, str]:
    """The files of a version. Requirements differ, so that each version has its own venv."""
    return {"says": version, "requirements.txt": f"# {version}\n", "a/b.txt": "b", "a/c/d.txt": version}


async def state_after_start(host: Host) -> dict[str, Any]:
    """The state after an agent has started, recovered and ended."""
    async with running(host):
        _, status = await host.request("GET", "/status")
        _, listing = await host.request("GET", "/releases")
    return await asyncio.to_thread(state_of, host, status, listing)


def state_of(host: Host, status: dict[str, Any], listing: dict[str, Any]) -> dict[str, Any]:
    """The state, from what the agent says and what is on disk."""
    store, lies = ReleaseStore(host.app), host.state()
    return {
        "live": status["live"] and status["live"]["version"],
        "running": status["running"],
        "trouble": status["trouble"],
        "fallback": status["previous"] and status["previous"]["version"],
        "outcomes": [one["outcome"] for one in listing["deployments"]],
        "damage": {one["version"]: store.intact(one["id"]) for one in listing["releases"]},
        "venvs": {one["version"]: whole(store.layout.release(one["id"]) / "venv") for one in listing["releases"]},
        "shared": {one["version"]: shared(store.layout.release(one["id"])) for one in listing["releases"]},
        "strange": store.strange(),
        "staging": lies["staging"],
        "history": audited(host),
        "convenience": status["live"] and str(lies["venv"]) == f"venvs/{store.venv(status['live']['release'])}",
    }


def audited(host: Host) -> str:
    """The first sign that the history on disk is not whole; empty if it is."""
    with snapshot(host.layout.journal) as journal:
        return journal.audit(APP)


def whole(venv: Path) -> bool:
    """Whether a venv has what uv and the agent wrote into it."""
    try:
        return all((venv / name).read_bytes() for name in ("pyvenv.cfg", "bin/activate", ".complete"))
    except OSError:
        return False


def shared(release: Path) -> bool:
    """Whether a release's links lead to its shared folders."""
    return all((release / name).is_symlink() and (release / name).is_dir() for name in SETTINGS["shared_paths"])


def wrong(found: dict[str, Any], op: str) -> str:
    """What is wrong with this state after the change `op`; empty if nothing is."""
    last = found["outcomes"][0]
    good = {
        "something serves": found["running"] and not found["trouble"],
        "it is a version that was good": found["live"] in ("v2", "v3"),
        "no release is damaged": not any(found["damage"].values()),
        "none lacks anything of its venv": all(found["venvs"].values()),
        "none lacks anything that is shared": all(found["shared"].values()),
        "none is unknown": not found["strange"],
        "there is a way back": found["fallback"] in ("v1", "v2") and found["fallback"] != found["live"],
        "nothing is under way": None not in found["outcomes"],
        "its history is whole": not found["history"],
        "nothing is half built": found["staging"] == [],
        "what was done is live": found["live"]
        == ("v3" if last == "done" and len(found["outcomes"]) == 3 else "v2"),
        "its venv is the one shown": found["convenience"],
    }
    return "; ".join(f"not so: {what}" for what, so in good.items() if not so) and f"{op}: {good} {found}"
