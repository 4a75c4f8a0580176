"""What is fuzzed: each parser of bytes from outside, with the errors it may raise.

Invariant: a target returns, or raises one of its errors. Anything else is a finding. Where a format has one
spelling for each value, what was read must be written the same.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import zstandard

from agent.core.config.app import parse_app
from agent.core.config.host import parse_agent
from agent.core.environment_file import parse_environment_file
from agent.core.requirements.wanted import Kind, read_exported, read_wanted
from agent.core.sshsig import read_envelope, trust_line
from agent.host.bundle.budget import Budget
from agent.host.bundle.tar import TarBundle
from agent.host.bundle.zstd import decompress
from agent.host.dependencies.stream import Malformed, read_outcome, read_tree
from pusher.transport.bounds import TooMuch
from pusher.wire import Event, LogLine, Manifest, Problem, Refused, WireError
from pusher.wire.index import index_line, read_index
from pusher.wire.tar import TarReader
from tests.fuzz.answers import ask, follow
from tests.hostile.envelopes import armored


@dataclass(frozen=True, slots=True)
class Target:
    """`run` reads some bytes. `refusals`: the errors that bad input gets."""

    run: Callable[[bytes], None]
    refusals: tuple[type[Exception], ...] = (Refused,)


def envelope(data: bytes) -> None:
    """An armored signature; and, where that is not one, the same bytes in armor."""
    try:
        read_envelope(data)
    except Refused:
        read_envelope(armored(data))


def public_key(data: bytes) -> None:
    """The line of a public key, which `pusher-agent trust` reads."""
    trust_line(data.decode(errors="replace"), principal="tester")


def manifest(data: bytes) -> None:
    found = Manifest.from_bytes(data)
    assert found.to_bytes() == data, "a manifest has two spellings"


def index(data: bytes) -> None:
    lines = data.splitlines(keepends=True)
    found = list(read_index(lines))
    assert b"".join(map(index_line, found)) == b"".join(lines), "an index has two spellings"


def tar(data: bytes) -> None:
    """An archive as it is, or with the checksums of its headers put right."""
    content = data[1:] if data[:1] != b"\1" else _with_checksums(data[1:])
    reader = TarReader(io.BytesIO(content).read)
    while reader.next() is not None:
        for _ in reader.content():
            pass


def zstd(data: bytes) -> None:
    """Frames, read under the budget of a bundle whose signature does not hold yet."""
    for piece in decompress(io.BytesIO(data).read, Budget()):
        assert len(piece) <= 128 * 1024, "a piece is larger than a block"


def bundle(data: bytes) -> None:
    """A whole bundle: a tar as it is, with right checksums, or inside good frames, to its last file."""
    content = _with_checksums(data[1:]) if data[:1] == b"\1" else data[1:]
    packed = content if data[:1] == b"\2" else _COMPRESSOR.compress(content)
    reading = TarBundle(io.BytesIO(packed).read)
    raw, signature = reading.signed_manifest()
    assert len(raw) <= 65536 >= len(signature)
    found = Manifest.from_bytes(raw)
    reading.verified(found)
    for _ in reading.index(found.index_size):
        pass
    for _, _, pieces in reading.files():
        for _ in pieces:
            pass


def requirements(data: bytes) -> None:
    """A requirements file that includes others; what comes out reads the same once more."""
    head, *more = data.split(b"\0")
    files = {"requirements.txt": head} | {f"{number}.txt": text for number, text in enumerate(more)}
    for wheels_only in (True, False):
        wanted = read_wanted("requirements.txt", read=files.get, wheels_only=wheels_only)
        text = "".join(f"{one}\n" for one in wanted.requirements)
        again = read_exported(wanted, text, wheels_only=wheels_only)
        assert [*map(str, again.requirements)] == [*map(str, wanted.requirements)], "it is read in two ways"


def project(data: bytes) -> None:
    """A pyproject.toml, and a uv.lock beside it."""
    head, _, lock = data.partition(b"\0")
    files = {"pyproject.toml": head, "uv.lock": lock}
    wanted = read_wanted("pyproject.toml", read=files.get, wheels_only=True, indexes=("x",))
    assert wanted.kind is Kind.PROJECT
    read_wanted("uv.lock", read=files.get, wheels_only=True)


def exported(data: bytes) -> None:
    """What uv makes of a lock."""
    files = {"pyproject.toml": b"", "uv.lock": b""}
    wanted = read_wanted("uv.lock", read=files.get, wheels_only=False)
    read_exported(wanted, data.decode(errors="replace"), wheels_only=False)


def environment(data: bytes) -> None:
    parse_environment_file(data.decode(errors="surrogateescape"), file="env")


def toml(data: bytes) -> None:
    """The configuration of an app, and of the host."""
    text = data.decode(errors="replace")
    try:
        parse_app(text, file="app.toml", app="demo")
    except Refused:
        parse_agent(text, file="agent.toml")


def build(data: bytes) -> None:
    """What comes back from the user that installs dependencies."""
    source = io.BytesIO(data)
    read_outcome(source, lambda line: None)
    for _ in read_tree(source):
        pass


def event(data: bytes) -> None:
    """A line of a deployment's progress, and of a log."""
    try:
        Event.from_line(data)
    except WireError:
        LogLine.from_line(data)


def answer(data: bytes) -> None:
    """What a server sends to `pusher`, byte by byte: to a question, and as a stream."""
    if data[:1] == b"\1":
        follow(data[1:])
    else:
        ask(data[1:])


TARGETS = {
    "envelope": Target(envelope),
    "public-key": Target(public_key),
    "manifest": Target(manifest, (WireError,)),
    "index": Target(index, (WireError,)),
    "tar": Target(tar),
    "zstd": Target(zstd),
    "bundle": Target(bundle, (Refused, WireError)),
    "requirements": Target(requirements, (Problem,)),
    "project": Target(project, (Problem,)),
    "exported": Target(exported, (Problem,)),
    "environment": Target(environment),
    "toml": Target(toml),
    "build": Target(build, (Malformed,)),
    "event": Target(event, (WireError, Problem)),
    "answer": Target(answer, (Problem, TooMuch)),
}

CANARY = "canary"
"""A target with a defect, which shows that findings are found. It is not among the others."""


def canary(data: bytes) -> None:
    """Fails for input that is not empty and begins with an even byte."""
    if data:
        len(data) // (data[0] % 2)


EVERY = {**TARGETS, CANARY: Target(canary)}

_COMPRESSOR = zstandard.ZstdCompressor(level=1)


def _with_checksums(content: bytes) -> bytes:
    """A tar whose headers have right checksums: without, nearly every change ends at the first."""
    whole = bytearray(content)
    at = 0
    while at + 512 <= len(whole) and any(whole[at : at + 512]):
        whole[at + 148 : at + 156] = b" " * 8
        whole[at + 148 : at + 156] = b"%06o\0 " % sum(whole[at : at + 512])
        try:
            size = int(bytes(whole[at + 124 : at + 136]).strip(b" \0") or b"0", 8)
        except ValueError:
            break
        at += 512 + (size + 511) // 512 * 512
    return bytes(whole)
