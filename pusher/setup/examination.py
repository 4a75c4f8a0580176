"""The questions of `pusher doctor`, in order, each answered before the next is asked.

Invariant: a question that cannot be asked is a finding, and ends only what depends on it.
"""

import time
from collections.abc import Iterator
from contextlib import closing

from pusher import __version__
from pusher.bundle.sign import public_key
from pusher.config import Settings
from pusher.setup.facts import PROBE, parse_facts
from pusher.setup.findings import Finding, of_check, of_host, of_index, wrong
from pusher.setup.remote import Remote
from pusher.transport.client import Client
from pusher.transport.hosts import Host
from pusher.wire import Code, Problem

_CHECK = "sudo -n pusher-agent check 2>/dev/null || pusher-agent check 2>&1; true"
# `pip` stands for any package: an index without it is none. Nothing is installed. The proxy is the agent's, not
# that of this shell: the build units get it from there.
_INDEX = """
uv=/usr/lib/pusher-agent/bin/uv
[ -x "$uv" ] || exit 0
set -- ${1:+--index-url "$1"}
unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
for one in $(systemctl show pusher-agent.service --property=Environment --value 2>/dev/null); do
    case $one in *_proxy=* | *_PROXY=* | SSL_CERT_FILE=* | SSL_CERT_DIR=*) export "$one" ;; esac
done
if said=$(echo pip | timeout 30 "$uv" pip compile --quiet --no-config --system-certs --no-cache --no-deps \\
    --python /usr/bin/python3 "$@" - 2>&1); then echo ok; else echo "$said"; fi
"""


def examine(settings: Settings, host: Host) -> Iterator[Finding]:
    """What is found on this machine, and on a host."""
    key = ""
    try:
        key = public_key(settings.key)
        yield Finding(f"you sign with {key.split()[0]} ...{key.split()[1][-12:]}")
    except Problem as problem:
        yield wrong(problem.what, problem.hint)
    remote = Remote(host, ssh=settings.ssh)
    began = time.time()
    try:
        facts = parse_facts(remote.ask(PROBE, __version__))
    except Problem as problem:
        yield _unasked(problem)
        return
    ended = time.time()
    yield Finding(f"ssh to {host.name} works, as {facts.user} ({ended - began:.1f} s)")
    # It told its time, in whole seconds, somewhere between the question and the answer.
    ahead = facts.time - ended if facts.time > ended else min(0, facts.time + 1 - began)
    yield from of_host(facts, host=host.name, key=key, own=__version__, ahead_s=ahead)
    if facts.installed:
        yield _door(settings, host)
        try:
            yield from of_check(remote.ask(_CHECK), root=facts.root or facts.sudo_free)
            for index in facts.indexes:
                yield of_index(remote.ask(_INDEX, index), index=index)
        except Problem as problem:
            yield _unasked(problem)


def _unasked(problem: Problem) -> Finding:
    return wrong(f"{problem.what}: {problem.why}", problem.hint)


def _door(settings: Settings, host: Host) -> Finding:
    """Whether the agent answers this person through ssh, as it does for every other command."""
    with closing(Client(host, ssh=settings.ssh)) as client:
        try:
            client.status()
        except Problem as problem:
            if problem.code not in (Code.UNKNOWN_APP, Code.SEVERAL_APPS, Code.CONFIGURATION):
                return wrong(f"its agent does not answer you: {problem.what}", problem.hint or problem.why)
    return Finding("its agent answers you")
