"""Responses: JSON that a terminal can show, and problem documents (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from pusher.wire import EVENTS_TYPE, PROBLEM_TYPE, Code, Problem, Stuck, canonical

STATUS: Mapping[Code, int] = {
    # 4xx: the request must change, or the release it brings. 5xx: this host must. `curl --retry` repeats requests
    # with status 408, 429, 500, 502, 503 and 504 by itself. What that cannot mend has another status: a release
    # that fails is 422.
    Code.BAD_REQUEST: 400,
    Code.BUNDLE_MALFORMED: 400,
    Code.BUNDLE_INCOMPLETE: 409,
    Code.SIGNATURE_INVALID: 403,
    Code.SIGNER_UNKNOWN: 403,
    Code.SIGNER_REVOKED: 403,
    Code.SIGNATURES_MISSING: 403,
    Code.TOUCH_MISSING: 403,
    Code.CONTENT_MISMATCH: 422,
    Code.WRONG_APP: 422,
    Code.WRONG_HOST: 422,
    Code.OLDER_THAN_ACCEPTED: 409,
    Code.FROM_THE_FUTURE: 422,
    Code.EXPIRED: 422,
    Code.CHANNEL_MALFORMED: 422,
    Code.CHANNEL_FORKED: 409,
    Code.CHANNEL_CHANGED: 409,
    Code.WRONG_CHANNEL: 422,
    Code.REPOSITORY_UNREACHABLE: 502,
    Code.REPOSITORY_REDIRECTS: 502,
    Code.LIMIT_EXCEEDED: 413,
    Code.NAME_NOT_ALLOWED: 422,
    Code.UNKNOWN_APP: 404,
    Code.UNKNOWN_RELEASE: 404,
    Code.UNKNOWN_DEPLOYMENT: 404,
    Code.NOTHING_TO_ROLL_BACK_TO: 409,
    Code.NOT_LIVE: 409,
    Code.TOO_LATE: 409,
    Code.SEVERAL_APPS: 409,
    Code.BUSY: 409,
    Code.STOPPING: 503,
    Code.NOT_ALLOWED: 403,
    Code.CONFIGURATION: 409,
    Code.UPLOAD_BROKEN: 400,
    Code.DISK_FULL: 507,
    Code.DISK_ERROR: 500,
    Code.RELEASE_DAMAGED: 409,
    Code.SHARED_FILE_MISSING: 409,
    Code.DEPENDENCIES_FAILED: 422,
    Code.BUILD_FAILED: 422,
    Code.START_NOT_FOUND: 422,
    Code.PORT_TAKEN: 409,
    Code.SOCKET_NOT_TAKEN: 422,
    Code.APP_EXITED: 422,
    Code.APP_UNHEALTHY: 422,
    Code.HOOK_FAILED: 422,
    Code.SERVICE_FAILED: 500,
    Code.INTERRUPTED: 503,
    Code.TIMED_OUT: 422,
    Code.NOT_DELIVERED: 502,
    Code.NOT_UNDONE: 500,
    Code.INTERNAL: 500,
}

_HEADERS = {
    "Server": "pusher-agent",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # No page of another origin may embed what is said here, whatever type it takes it for.
    "Cross-Origin-Resource-Policy": "same-origin",
}


def json_response(
    members: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """`members` as canonical JSON and a newline."""
    return _response(members, "application/json", status, headers)


def text_response(body: bytes, kind: str) -> web.Response:
    """`body` as it is, with this content type."""
    return web.Response(body=body, headers={**_HEADERS, "Content-Type": kind})


def problem_response(
    problem: Problem, *, status: int | None = None, instance: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    """A problem document; `status` replaces that of its code. `instance` is the path of the deployment."""
    if status is None:
        status = 500 if isinstance(problem, Stuck) else STATUS[problem.code]
    document = problem.to_document(status=status)
    if instance:
        document["instance"] = instance
    return _response(document, PROBLEM_TYPE, status, headers)


def problem_bytes(problem: Problem, *, status: int) -> bytes:
    """A whole response with a problem document, for a connection that is closed after it."""
    body = canonical(problem.to_document(status=status)) + b"\n"
    headers = {**_HEADERS, "Content-Type": PROBLEM_TYPE, "Content-Length": len(body), "Retry-After": 1}
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        *(f"{key}: {value}" for key, value in headers.items()),
    ]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def event_stream() -> web.StreamResponse:
    """The start of a response that is written line by line."""
    return web.StreamResponse(headers={**_HEADERS, "Content-Type": EVENTS_TYPE})


def _response(
    members: Mapping[str, Any], kind: str, status: int, headers: Mapping[str, str] | None
) -> web.Response:
    everything = {**_HEADERS, "Content-Type": kind, **(headers or {})}
    return web.Response(body=canonical(members) + b"\n", status=status, headers=everything)
