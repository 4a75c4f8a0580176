"""What mutation starts from: the inputs of the hostile tests, made when they are needed."""

import base64
import io
import json
from collections.abc import Callable, Iterable

from agent.host.dependencies.stream import END, FILE, FOLDER, LINE, LINK, OUTCOME, write_frame
from pusher.wire import Event, LogLine
from tests.field.environment_cases import PLAIN, odd
from tests.hostile import archives, test_requirements
from tests.hostile.archives import TREE, index_of, manifest_of, member, padded, pax, payload, record, rle_frame
from tests.hostile.cases import CASES
from tests.unit import test_sshsig

LARGEST = 48 * 1024
"""Larger inputs are slow, and show nothing that smaller ones do not."""

_SMALL = {"app.py": b"app = 1\n", "requirements.txt": b"flask\n", "run": (b"#!/bin/sh\n", 0o755), "up": "app.py"}
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_CONFIGURATION = """
path = "/opt/demo"
listen = "[::]:8000"
start = "gunicorn -w 2 app:app"
keep_releases = 3
shared_paths = ["uploads"]
shared_files = [".env"]
environment_file = "/etc/demo.env"
[health]
path = "/version"
status = [200, 204]
version_member = "version"
[dependencies]
requirements = "uv.lock"
only_binary = false
[[dependencies.indexes]]
name = "own"
url = "https://example.org/simple"
packages = ["own"]
"""
_HOST = 'name = "web1"\nservice = "systemd"\n[door]\naddress = "127.0.0.1:9000"\n[limits]\nfiles = 10\n[drop]\n'


def seeds(target: str) -> list[bytes]:
    """The inputs of a target, each once, the small ones first."""
    found = {one for one in _MADE[target]() if len(one) <= LARGEST}
    return sorted(found, key=lambda one: (len(one), one))


def _envelopes() -> Iterable[bytes]:
    yield from (test_sshsig.armored(test_sshsig.blob(*one)) for one in test_sshsig.KEYS.values())
    yield from (test_sshsig.blob(*one) for one in test_sshsig.KEYS.values())
    yield from test_sshsig.REFUSED.values()


def _public_keys() -> Iterable[bytes]:
    for kind, (key, _) in test_sshsig.KEYS.items():
        yield f"{kind} {base64.b64encode(key).decode()} tester@example.org\n".encode()


def _manifests() -> Iterable[bytes]:
    whole = manifest_of(index_of(TREE), TREE)
    members = json.loads(whole)
    yield whole
    for change in ({"hosts": ["web1", "web2"]}, {"schema": 2}, {"files": True}, {"created": "now"}, {"index": []}):
        yield json.dumps(members | change, sort_keys=True, separators=(",", ":")).encode()


def _indexes() -> Iterable[bytes]:
    yield from (index_of(TREE), index_of({"a": "../../x"}), index_of({"n" * 256: b""}), index_of({'é\n"': b"x"}))


def _small_bundle() -> bytes:
    return archives.signed(_SMALL) + payload(_SMALL) + archives.END


def _tars() -> Iterable[bytes]:
    parts = [
        _small_bundle(),
        member("files/app.py", kind=b"2", linkname=b"/etc/passwd"),
        pax(record("path", "files/a"), record("size", "3")) + member("files/x", b"abc"),
        pax(record("GNU.sparse.major", "1")) + member("files/app.py", b"app"),
        member("x", b"files/long\0", kind=b"L") + member("files/x", b"abc"),
        archives.header("files/app.py", b"\x80" + bytes(10) + b"\x08") + padded(b"app = 1\n"),
        archives.header("x", 8**11 - 1, kind=b"x") + bytes(1024),
        member("files/x", b"abc", prefix=b"some/where"),
    ]
    for part in parts:
        for kind in (b"\0", b"\1"):
            yield kind + part
            yield kind + part + archives.END


def _hostile_bundles() -> Iterable[bytes]:
    # Those of half a gigabyte are made in other tests.
    for case in CASES:
        if "bomb" not in case.name and "endless" not in case.name and "8 GiB" not in case.name:
            yield case.make()


def _frames() -> Iterable[bytes]:
    yield from _hostile_bundles()
    yield rle_frame(b"a", 3)
    yield rle_frame(b"", 2)
    yield archives.squeeze(b"abc" * 1000, level=19)


def _bundles() -> Iterable[bytes]:
    yield from (b"\2" + one for one in _hostile_bundles())
    yield from _tars()


def _requirements() -> Iterable[bytes]:
    for function in (test_requirements.test_no_spelling_of_a_requirements_file_runs_build_code,):
        yield from (text.encode(errors="replace") for text in _parameters(function))
    yield b"flask==3.0.3 --hash=sha256:" + b"ab" * 32 + b"\n-r 0.txt\0-c 1.txt\nclick<9\0x<1"
    yield b"Flask[async,dotenv] >= 3, < 4 ; python_version > '3.8' and (sys_platform == 'linux')\n"
    yield b"flask @ https://example.org/flask-3.0.3-py3-none-any.whl#egg=flask\n./wheels/a-1-py3-none-any.whl\n"
    yield b"--only-binary :all:\n--find-links ./wheels\n--no-index\n--pre\nflask \\\n  # more\n"


def _projects() -> Iterable[bytes]:
    locks = _parameters(test_requirements.test_no_lock_runs_build_code)
    for project in _parameters(test_requirements.test_no_spelling_of_a_project_runs_build_code):
        yield project.encode() + b"\0" + test_requirements.ROOT.encode()
    project = test_requirements.PROJECT.format(needs='["evil>=1", "x @ https://example.org/x-1-py3-none-any.whl"]')
    for lock in locks:
        yield f'{project}\0{test_requirements.ROOT}[[package]]\nname = "evil"\n{lock}'.encode()


def _exported() -> Iterable[bytes]:
    yield b"flask==3.0.3 \\\n    --hash=sha256:" + b"ab" * 32 + b" \\\n    --hash=sha512:" + b"cd" * 64 + b"\n"
    yield b"evil @ git+https://example.org/evil@" + b"a" * 40 + b"\n./wheels/x-1-py3-none-any.whl\n"


def _environments() -> Iterable[bytes]:
    yield from (text.encode() for text in (*PLAIN, *odd()) if len(text) < 1_000)


def _builds() -> Iterable[bytes]:
    out = io.BytesIO()
    write_frame(out, LINE, b"Resolved 3 packages")
    write_frame(out, OUTCOME, b'{"problem":"","key":"x"}')
    write_frame(out, FOLDER, b'["bin"]')
    write_frame(out, FILE, b'["bin/x",true,3]')
    out.write(b"abc")
    write_frame(out, LINK, b'["lib","bin"]')
    write_frame(out, END)
    yield out.getvalue()


def _lines() -> Iterable[bytes]:
    yield Event(1, 0, "step_done", {"step": "unpack", "ms": 1}).to_line()
    yield LogLine(0, "service", "hello", pid=3).to_line()
    yield b'{"problem":{"code":"internal","outcome":"stuck","title":"x","detail":"y"}}'
    yield b'{"a":' * 40 + b"1" + b"}" * 40


def _answers() -> Iterable[bytes]:
    bodies = [b"{}", b'{"deployment":"demo-1"}', b"[]", b'{"a":[[[]]]}', *_lines()]
    for body in bodies:
        for kind in (b"\0", b"\1"):
            yield kind + _HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
            yield kind + _HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    yield b"\0HTTP/1.1 100 Continue\r\n\r\n" * 3
    yield b"\0HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\n\r\n" + bodies[-2]
    yield b"\0SSH-2.0-OpenSSH_9.2p1\r\n"


def _parameters(function: Callable[..., object]) -> list[str]:
    """The first parameter of each case of a test."""
    mark = next(one for one in function.pytestmark if one.name == "parametrize")  # type: ignore[attr-defined]
    return [one if isinstance(one, str) else one[0] for one in mark.args[1]]


_MADE: dict[str, Callable[[], Iterable[bytes]]] = {
    "envelope": _envelopes,
    "public-key": _public_keys,
    "manifest": _manifests,
    "index": _indexes,
    "tar": _tars,
    "zstd": _frames,
    "bundle": _bundles,
    "requirements": _requirements,
    "project": _projects,
    "exported": _exported,
    "environment": _environments,
    "toml": lambda: [_CONFIGURATION.encode(), _HOST.encode()],
    "build": _builds,
    "event": _lines,
    "answer": _answers,
    "canary": lambda: [b"abc"],
}
