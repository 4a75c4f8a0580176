"""How a venv is named and made: its key, the files that uv reads, and the commands that make it.

Invariant: two releases get the same key only if the same commands over the same inputs would make their venvs.
Every command runs in a work folder that holds what is written here, `wheels/` and `venv/`, and names nothing of a
release.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from agent.core.config.app import DEFAULT_INDEX, Dependencies
from agent.core.environment import CLEAN_PATH
from agent.core.requirements.requirement import WHEELS
from agent.core.requirements.wanted import Kind, Wanted
from agent.core.work_folder import BOUND, CONSTRAINTS, EXPORTED, LOCK_FOLDER, REQUIREMENTS, VENV, Source
from pusher.wire import Code, Refused, canonical

COMPLETE = ".complete"
"""The mark of a venv that was made to its end."""

_FORMAT = 2
"""Of the inputs of a venv: a higher number makes every venv anew."""

_PASSED_ON = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)
_ALWAYS = ("--no-config", "--no-python-downloads", "--color", "never", "--no-progress")
_FACTS = """
import os, sys, sysconfig
print(sys.version, sys.implementation.cache_tag, os.path.realpath(sys.executable))
print(sysconfig.get_platform(), sysconfig.get_config_var("SOABI"))
"""


def venv_key(
    wanted: Wanted,
    *,
    python: str,
    config: Dependencies,
    wheels: Mapping[str, str],
    places: Mapping[str, str] | None = None,
) -> str:
    """The key of a venv: 16 hex digits.

    `python`: its facts (`facts_argv`). `wheels`, `places`: the SHA-256 by path of what lies in `wheels/`, to any
    depth, and in the folders of `find_links`.
    """
    described = describe(wanted, python=python, config=config, wheels=wheels, places=places or {})
    return hashlib.sha256(described).hexdigest()[:16]


def describe(
    wanted: Wanted, *, python: str, config: Dependencies, wheels: Mapping[str, str], places: Mapping[str, str]
) -> bytes:
    """Everything that a venv is made from, as canonical JSON; also what its mark says."""
    return canonical(
        {
            "format": _FORMAT,
            "requirements": wanted.name,
            "files": dict(wanted.files),
            "wheels": dict(wheels),
            "places": dict(places),
            "python": python,
            "only_binary": config.only_binary,
            "index_url": config.index_url,
            "indexes": [one.model_dump() for one in config.indexes],
            "no_index": config.no_index,
            "find_links": list(config.find_links),
        }
    )


def sources(config: Dependencies, wanted: Wanted, *, wheels: bool) -> tuple[Source, ...]:
    """Where to look, in turn, until one has everything. CACHE is only for an index that cannot be reached."""
    if config.no_index or wanted.no_index or config.network == "none":
        return (Source.LOCAL,)
    online = (Source.INDEX, Source.CACHE)
    return (Source.LOCAL, *online) if wheels else online


def written_files(wanted: Wanted, config: Dependencies) -> dict[str, str]:
    """The files that uv reads, by name."""
    files = {REQUIREMENTS: _lines(wanted.requirements)}
    if wanted.constraints:
        files[CONSTRAINTS] = _lines(wanted.constraints)
    if bound := _bound(wanted, config):
        files[BOUND] = "\n".join(_bound_project(bound, config)) + "\n"
    return files


def astray(wanted: Wanted, config: Dependencies, *, installed: Collection[str]) -> list[str]:
    """Those of the installed packages that are bound to an index, and did not come from there.

    uv applies a binding only to what is asked for by name, not to what that needs in turn.
    """
    named = {canonicalize_name(one.name) for one in wanted.requirements}
    every = {canonicalize_name(package) for one in config.indexes for package in one.packages}
    return sorted((every & {canonicalize_name(one) for one in installed}) - named)


def facts_argv(python: str) -> tuple[str, ...]:
    """Asks an interpreter what build it is, without running anything that was installed into it."""
    return (python, "-I", "-S", "-c", _FACTS)


def make_argv(uv: Path, *, python: str) -> tuple[str, ...]:
    """Makes an empty venv. Relocatable, or it would break when it is renamed."""
    return (str(uv), "venv", *_ALWAYS, "--quiet", "--no-project", "--relocatable", "--python", python, VENV)


def export_argv(uv: Path, *, python: str) -> tuple[str, ...]:
    """Writes what a uv.lock says as a requirements file with hashes, without the project itself.

    From a folder with only the lock and its project: in the release's own, uv would look for a venv and run it.
    """
    what = ("--frozen", "--no-emit-project", "--no-default-groups", "--no-header", "--no-annotate")
    out = ("--output-file", EXPORTED)
    return (str(uv), "export", *_ALWAYS, "--quiet", "--project", LOCK_FOLDER, *what, "--python", python, *out)


def install_argv(
    uv: Path, wanted: Wanted, *, config: Dependencies, source: Source, wheels: bool
) -> tuple[str, ...]:
    """Installs what is wanted into the venv.

    Copies: a file that the venv shared with the cache by a hard link would, once damaged, damage every venv.
    """
    argv = [str(uv), "pip", "install", *_ALWAYS, "--system-certs", "--link-mode", "copy"]
    argv += ["--keyring-provider", "disabled", "--python", f"{VENV}/bin/python"]
    if config.only_binary:
        argv += ["--no-build"]
    else:
        argv += [word for name in wanted.only_binary for word in ("--only-binary", name)]
        argv += [word for name in wanted.no_binary for word in ("--no-binary", name)]
    if wanted.hashed:
        argv += ["--require-hashes"]
    if wanted.exact:
        argv += ["--no-deps"]
    if wanted.prereleases:
        argv += ["--prerelease", "allow"]
    if source is Source.LOCAL:
        argv += ["--no-index"]
    else:
        if config.index_url:
            argv += ["--default-index", f"{DEFAULT_INDEX}={config.index_url}"]
        for index in config.indexes:
            argv += [] if index.packages else ["--index", f"{index.name}={index.url}"]
    if source is Source.CACHE:
        argv += ["--offline"]
    for place in (*([WHEELS] if wheels else []), *config.find_links):
        argv += ["--find-links", place]
    argv += ["--requirements", REQUIREMENTS]
    if wanted.constraints:
        argv += ["--constraints", CONSTRAINTS]
    if source is not Source.LOCAL and _bound(wanted, config):
        argv += ["--requirements", BOUND]
    return tuple(argv)


def compile_argv(python: str, *, final: Path) -> tuple[str, ...]:
    """Compiles the modules of the venv that is the working folder; tracebacks name where the venv will be.

    Not the packages' own tests: of numpy, pandas and scikit-learn they are half, and nobody imports them. Never
    with the venv's own interpreter: that runs the `.pth` files of what was just installed.
    """
    which = ("-x", "^lib/.*/tests/", "-p", str(final), "lib")
    return (python, "-I", "-S", "-m", "compileall", "-q", "-q", "-j", "0", *which)


def uv_environment(agent: Mapping[str, str], *, cache: Path) -> dict[str, str]:
    """uv's environment: of the agent's own only the way to an index that root has set.

    HOME is a folder of its own, and NETRC nothing: credentials get to uv only as `index_credentials` gives them.
    """
    return {
        **passed_on(agent),
        "PATH": CLEAN_PATH,
        "HOME": str(cache),
        "LANG": "C.UTF-8",
        "NETRC": "/dev/null",
        "UV_CACHE_DIR": str(cache / "uv"),
        "UV_HTTP_RETRIES": "2",  # three tries take 3 s; uv's own four take 10 s to say that there is no network
    }


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Of an environment, the way to the network that root has set: proxies and certificates."""
    return {name: environment[name] for name in _PASSED_ON if name in environment}


def index_credentials(config: Dependencies, logins: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The variables by which uv gets a login: each for one of root's indexes, by that index's host.

    uv sends it to that scheme, host and port alone. Raises: Refused(configuration), for an index that it would
    reach in the clear.
    """
    variables: dict[str, str] = {}
    default = ((DEFAULT_INDEX, config.index_url),) if config.index_url else ()
    for name, url in (*default, *((one.name, one.url) for one in config.indexes)):
        parts = urlsplit(url)
        if (login := logins.get(parts.hostname or "")) is None:
            continue
        if parts.scheme != "https":
            raise Refused(
                Code.CONFIGURATION,
                f"The credentials for {parts.hostname} cannot be used",
                why=f"the index {url} is not https, so everybody on the way could read them",
                hint="Name it by https, or take its host out of credentials_file",
            )
        variable = f"UV_INDEX_{name.upper().replace('-', '_')}"
        variables |= {f"{variable}_USERNAME": login[0], f"{variable}_PASSWORD": login[1]}
    return variables


def needs_export(wanted: Wanted) -> bool:
    """Whether what is wanted is known only when uv has exported it."""
    return wanted.kind is Kind.LOCK


def _lines(requirements: Collection[object]) -> str:
    return "".join(f"{one}\n" for one in requirements)


def _bound(wanted: Wanted, config: Dependencies) -> dict[str, list[str]]:
    """What is asked for by name and bound to an index: the index, by each requirement without its version."""
    homes: dict[str, str] = {
        canonicalize_name(package): one.name for one in config.indexes for package in one.packages
    }
    found: dict[str, list[str]] = {}
    for one in wanted.requirements:
        if one.name in homes and not one.direct:
            marked = f"{one.name} ; {one.marker}" if one.marker else one.name
            found.setdefault(homes[one.name], []).append(marked)
    return found


def _bound_project(bound: Mapping[str, list[str]], config: Dependencies) -> Iterator[str]:
    """A project file: the only way to tell uv that a package comes from one index and from nowhere else.

    https://docs.astral.sh/uv/concepts/indexes/#pinning-a-package-to-an-index. JSON's strings are TOML's too.
    """
    yield '[project]\nname = "bound"\nversion = "0"'
    yield f"dependencies = {json.dumps([one for every in bound.values() for one in every])}"
    for index in config.indexes:
        if index.name in bound:
            yield f"[[tool.uv.index]]\nname = {json.dumps(index.name)}\nurl = {json.dumps(index.url)}"
            yield "explicit = true"
    yield "[tool.uv.sources]"
    for name, requirements in bound.items():
        for package in dict.fromkeys(one.partition(" ")[0] for one in requirements):
            yield f"{json.dumps(package)} = {{ index = {json.dumps(name)} }}"
