"""A repository on a web server, written by PUT (RFC 9110, section 9.3.4).

Invariant: a document is replaced only by a server that compares: it is asked for the impossible once, and one that
does it is not used. What was accepted is read back, because a server may say yes and keep nothing.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPMessage
from pathlib import Path

from pusher.errors import Unreachable, Usage
from pusher.repository.store import Found, Item, changed_meanwhile, missing, too_large
from pusher.transport.web_server import Answer, WebServer
from pusher.wire import Code, Failed, Problem, Refused

_MOST = 16 * 1024 * 1024
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_STORED = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT)
_COMPARED = (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND)
"""Answers of a server that has compared; the last one is some object stores' for what is not there."""
_FRESH = {"Cache-Control": "no-cache"}
"""Of a question; and of what is put: a store says to caches in front of it what was said with an object."""
_LASTING = {"Cache-Control": "public, max-age=31536000, immutable"}
_PROBLEM_BYTES = 16 * 1024
_SHOWN = 300


class WebFolder:
    """The repository at `https://host/path`, or http:// on this machine. `credentials` is a netrc file."""

    login_hint = "Name a netrc file with your login there: `credentials_file` in pusher.toml"

    def __init__(self, address: str, *, credentials: Path | None = None, server: WebServer | None = None) -> None:
        self._server = server or WebServer(address, credentials=credentials)
        self.address = self._server.address
        self._compares = False
        """Whether the server has shown that it compares."""

    def read(self, name: str, *, most: int) -> Found | None:
        """As in the port."""
        found = self._read(name, most)
        return Found(found.body, _digest(found.body)) if found else None

    @contextmanager
    def stream(self, name: str) -> Iterator[Iterator[bytes]]:
        """As in the port."""
        with self._server.stream(name) as (status, pieces):
            if status in _GONE:
                raise missing(name)
            if status != HTTPStatus.OK:
                raise self._cannot("read", name, Answer(status, HTTPMessage(), b""))
            yield pieces

    def put(self, name: str, file: Path) -> bool:
        """As in the port. One of another size is what a server has left of a transfer that was cut off."""
        size = file.stat().st_size
        before = self._size(name)
        if before == size:
            return False
        condition = {"If-None-Match": "*"} if before is None else {}
        try:
            headers = {**_LASTING, **condition}
            answer = self._server.ask("PUT", name, headers=headers, body=file, most=_PROBLEM_BYTES)
        except Unreachable:
            # Perhaps only its answer was lost.
            if self._size(name) == size:
                return True
            raise
        if answer.status == HTTPStatus.PRECONDITION_FAILED:
            return False  # another publisher was first: the name says what is in it
        if answer.status not in _STORED:
            raise self._cannot("write", name, answer)
        if self._size(name) != size:
            raise self._not_kept(name)
        return True

    def replace(self, name: str, content: bytes, *, tag: str | None) -> None:
        """As in the port."""
        # Two that set the brake do no harm to each other.
        if not self._compares and not name.startswith("brakes/"):
            self._try_out(name)
        found = self._read(name, _MOST)
        if (_digest(found.body) if found else None) != tag:
            raise changed_meanwhile(name)
        condition = {"If-Match": self._tag(name, found)} if found else {"If-None-Match": "*"}
        try:
            headers = {**_FRESH, **condition}
            answer = self._server.ask("PUT", name, headers=headers, body=content, most=_PROBLEM_BYTES)
        except Unreachable:
            if not self._has(name, content):
                raise
            return
        if answer.status in _STORED:
            if not self._has(name, content):
                raise self._not_kept(name)
        elif answer.status in _COMPARED:
            # A proxy may have sent it twice, and the first one was ours.
            if not self._has(name, content):
                raise changed_meanwhile(name)
        else:
            raise self._cannot("write", name, answer)

    def remove(self, name: str) -> None:
        """As in the port."""
        answer = self._server.ask("DELETE", name, most=_PROBLEM_BYTES)
        if answer.status not in (*_STORED, *_GONE):
            raise self._cannot("remove", name, answer)

    def names(self, prefix: str) -> list[Item]:
        """As in the port: a web server cannot be asked."""
        why = "a web server does not tell which objects it has"
        hint = "Name the folder that it serves: --repository FOLDER there, or ssh://host/folder"
        raise Usage(f"{self.address} cannot be listed", why=why, hint=hint)

    def unfinished(self) -> list[Item]:
        """As in the port: what was cut off is the server's own, and no object."""
        return []

    def _read(self, name: str, most: int) -> Answer | None:
        answer = self._server.ask("GET", name, headers=_FRESH, most=most)
        if answer.status in _GONE:
            return None
        if answer.status != HTTPStatus.OK:
            raise self._cannot("read", name, answer)
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise Unreachable(f"{self.address}/{name} is compressed on the way", why="nothing asked for that")
        if len(answer.body) > most:
            raise too_large(name, most)
        return answer

    def _size(self, name: str) -> int | None:
        """The size of an object; None if there is none, -1 if the server does not say."""
        answer = self._server.ask("HEAD", name, headers=_FRESH)
        if answer.status in _GONE:
            return None
        if answer.status != HTTPStatus.OK:
            raise self._cannot("read", name, answer)
        length = answer.headers.get("Content-Length", "")
        return int(length) if length.isascii() and length.isdecimal() else -1

    def _has(self, name: str, content: bytes) -> bool:
        found = self._read(name, _MOST)
        return found is not None and found.body == content

    def _try_out(self, name: str) -> None:
        """See that the server compares: what is there is put once more, on a condition that cannot be true.

        Raises: Refused, for one that does it all the same.
        """
        found = self._read(name, _MOST)
        answer = self._server.ask(
            "PUT",
            name,
            headers={"If-Match": f'"{secrets.token_hex(16)}"'},
            body=found.body if found else b"\n",
            most=_PROBLEM_BYTES,
        )
        if answer.status in _STORED:
            if found is None:
                with suppress(Problem):
                    self.remove(name)
            raise Refused(
                Code.NOT_ALLOWED,
                f"{self.address} is not published to",
                why="the server ignores If-Match, so two publishers could overwrite each other's word",
                hint="Use `pusher-agent repository serve`, an object store, or ssh:// to the folder behind it",
            )
        if answer.status not in _COMPARED:
            raise self._cannot("write", name, answer)
        self._compares = True

    def _tag(self, name: str, found: Answer) -> str:
        """The server's own name for what is there. Raises: Refused, if it has none that counts."""
        tag = found.headers.get("ETag", "")
        if not tag or tag.startswith("W/"):
            raise Refused(
                Code.NOT_ALLOWED,
                f"{self.address}/{name} is not replaced",
                why=f"the server has {'only a weak' if tag else 'no'} ETag for it, and could compare nothing",
                hint="Switch off compression and other changes of content on the way",
            )
        return tag

    def _not_kept(self, name: str) -> Failed:
        return Failed(
            Code.UPLOAD_BROKEN,
            f"{self.address}/{name} is not what was put there",
            why="the server accepted it, and has something else now",
            hint="Another publisher was faster, or something in between keeps nothing. See: pusher channel show",
        )

    def _cannot(self, verb: str, name: str, answer: Answer) -> Problem:
        """What an answer means that is none of those that are waited for."""
        status, what = answer.status, f"Could not {verb} {self.address}/{name}"
        said = _said(answer)
        why = f"the server answered {status}" + (f": {said}" if said else "")
        if 300 <= status < 400:
            target = answer.headers.get("Location", "")[:_SHOWN]
            why = f"the server answered {status}, to go to {target!r}, and redirects are not followed"
            return Refused(Code.REPOSITORY_REDIRECTS, what, why=why, hint="Name the address itself")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return Refused(Code.NOT_ALLOWED, what, why=why, hint=self.login_hint)
        if status in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
            hint = "It serves hosts only. Publish to the folder behind it, or by `pusher-agent repository serve`"
            return Refused(Code.NOT_ALLOWED, what, why=why, hint=hint)
        if status < 500:
            return Refused(Code.UPLOAD_BROKEN, what, why=why)
        return Failed(
            Code.UPLOAD_BROKEN, what, why=why, hint="Run the command again. What was there is there still"
        )


def _said(answer: Answer) -> str:
    """What a problem document says (RFC 9457), or the code in an object store's."""
    if found := re.search(rb"<Code>([A-Za-z0-9]{1,64})</Code>", answer.body[:4096]):
        return found[1].decode()
    with suppress(ValueError, RecursionError):
        members: object = json.loads(answer.body)
        if isinstance(members, Mapping):
            return ": ".join(str(members[one])[:_SHOWN] for one in ("title", "detail") if one in members)
    return ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
