"""How a venv is named and made: its key, and the commands that make it.

Invariant: two releases get the same key only if the same commands over the same inputs would make their venvs.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from agent.core.config import Dependencies
from agent.core.environment import CLEAN_PATH
from agent.core.requirements import WHEELS, Kind, Wanted
from pusher.wire import canonical

COMPLETE = ".complete"
"""The mark of a venv that was made to its end."""

EXPORTED = "requirements.lock.txt"
"""What a `uv.lock` is turned into, inside of the venv being made."""

_PASSED_ON = (
    *("HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)
_ALWAYS = ("--no-config", "--no-python-downloads", "--color", "never", "--no-progress")
_FACTS = """
import os, sys, sysconfig
print(sys.version, sys.implementation.cache_tag, os.path.realpath(sys.executable))
print(sysconfig.get_platform(), sysconfig.get_config_var("SOABI"))
"""


class Source(StrEnum):
    """Where one attempt looks for packages."""

    LOCAL = "local"  # wheels/ and find_links, nothing else
    INDEX = "index"
    CACHE = "cache"  # what the index once gave


def venv_key(wanted: Wanted, *, python: str, config: Dependencies, wheels: Mapping[str, str]) -> str:
    """The key of a venv: 16 hex digits. `python`: its facts (`facts_argv`); `wheels`: SHA-256 by file name."""
    return hashlib.sha256(describe(wanted, python=python, config=config, wheels=wheels)).hexdigest()[:16]


def describe(wanted: Wanted, *, python: str, config: Dependencies, wheels: Mapping[str, str]) -> bytes:
    """Everything that a venv is made from, as canonical JSON; also what its mark says."""
    return canonical(
        {
            "requirements": wanted.name,
            "files": dict(wanted.files),
            "wheels": dict(wheels),
            "python": python,
            "only_binary": config.only_binary,
            "index_url": config.index_url,
            "no_index": config.no_index,
            "find_links": list(config.find_links),
        }
    )


def sources(config: Dependencies, *, wheels: bool) -> tuple[Source, ...]:
    """Where to look, in turn, until one has everything. CACHE is only for an index that cannot be reached."""
    if config.no_index:
        return (Source.LOCAL,)
    online = (Source.INDEX, Source.CACHE)
    return (Source.LOCAL, *online) if wheels else online


def facts_argv(python: str) -> tuple[str, ...]:
    """Asks an interpreter what build it is, without running anything that was installed into it."""
    return (python, "-I", "-S", "-c", _FACTS)


def make_argv(uv: Path, *, python: str, into: Path) -> tuple[str, ...]:
    """Makes an empty venv. Relocatable, or it would break when it is renamed."""
    return (str(uv), "venv", *_ALWAYS, "--quiet", "--no-project", "--relocatable", "--python", python, str(into))


def export_argv(uv: Path, wanted: Wanted, *, python: str, into: Path) -> tuple[str, ...]:
    """Writes what a uv.lock says as a requirements file with hashes, without the project itself."""
    folder = str(Path(wanted.name).parent)
    what = ("--frozen", "--no-emit-project", "--no-default-groups", "--no-header", "--no-annotate")
    out = ("--output-file", str(into / EXPORTED))
    return (str(uv), "export", *_ALWAYS, "--quiet", "--project", folder, *what, "--python", python, *out)


def install_argv(
    uv: Path, wanted: Wanted, *, into: Path, config: Dependencies, source: Source, wheels: bool
) -> tuple[str, ...]:
    """Installs what is wanted into the venv `into`; run in the release's folder.

    Copies: a file that the venv shared with the cache by a hard link would, once damaged, damage every venv.
    """
    argv = [str(uv), "pip", "install", *_ALWAYS, "--system-certs", "--link-mode", "copy"]
    argv += ["--python", str(into / "bin/python")]
    if config.only_binary:
        argv += ["--no-build"]
    if wanted.hashed:
        argv += ["--require-hashes"]
    if source is Source.LOCAL:
        argv += ["--no-index"]
    elif config.index_url:
        argv += ["--default-index", config.index_url]
    if source is Source.CACHE:
        argv += ["--offline"]
    for place in (*([WHEELS] if wheels else []), *config.find_links):
        argv += ["--find-links", place]
    file = str(into / EXPORTED) if wanted.kind is Kind.LOCK else wanted.name
    return (*argv, "--requirements", file)


def compile_argv(python: str, *, built: Path, final: Path) -> tuple[str, ...]:
    """Compiles a venv's modules; tracebacks then name where the venv will be, not where it was built.

    Never with the venv's own interpreter: that runs the `.pth` files of what was just installed.
    """
    moved = ("-s", str(built), "-p", str(final))
    return (python, "-I", "-S", "-m", "compileall", "-q", "-q", "-j", "0", *moved, str(built / "lib"))


def uv_environment(agent: Mapping[str, str], *, cache: Path, credentials: Path | None) -> dict[str, str]:
    """uv's environment: of the agent's own only what the way to an index needs."""
    passed = {name: agent[name] for name in _PASSED_ON if name in agent}
    own = {"PATH": CLEAN_PATH, "LANG": "C.UTF-8", "UV_CACHE_DIR": str(cache / "uv")}
    own["UV_HTTP_RETRIES"] = "2"  # three tries take 3 s; uv's own four take 10 s to say that there is no network
    if credentials is not None:
        own["NETRC"] = str(credentials)
    return {"HOME": str(cache), **passed, **own}
