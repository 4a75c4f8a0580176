"""Whether a request is meant for this door. Requests that a web page or a proxy could cause are refused.

A browser on this host reaches every loopback port as its user. A web page can make it post anywhere, but then it
sends `Origin`. A name server can give any name the address 127.0.0.1, but then it sends that name as `Host`.
An image or a script of another page comes without `Origin`; there, `Sec-Fetch-Site` says who asks. So the page
that the door itself serves can read, and no page at all can change anything.
"""

import difflib
from collections.abc import Collection, Sequence
from urllib.parse import parse_qsl

from pusher.wire import Code, Refused

_OWN_SITES = ("same-origin", "none")
"""The door's own page; and what a person typed, or has among their bookmarks."""

NAMES = ("agent", "localhost", "127.0.0.1", "[::1]")


def allowed_hosts(host: str, port: int) -> frozenset[str]:
    """The `Host` values that mean a TCP door bound to `host` and `port`."""
    names = {*NAMES, host}
    return frozenset(f"{name}:{port}" for name in names) | (names if port == 80 else frozenset())


def check_origin(origins: Sequence[str], *, host: str, reads: bool) -> None:
    """Refuse a request from a web page. `host` is its `Host`, which was checked: to read, the page that came from
    there may name itself, as browsers do for the modules of a page. Raises: Refused(not_allowed).
    """
    if origins and not (reads and origins == [f"http://{host}"]):
        raise Refused(
            Code.NOT_ALLOWED,
            "Requests from web pages are not served",
            why=f"the request has the header Origin: {printable(origins[0])}",
            hint="Use curl or `pusher`",
        )


def check_site(sites: Sequence[str], *, reads: bool) -> None:
    """Refuse what a page of another site asks for, and every change that a browser asks for. `sites` are the
    values of `Sec-Fetch-Site`, which no script can set (Fetch Metadata). Raises: Refused(not_allowed).
    """
    if sites and not (reads and sites[0] in _OWN_SITES and len(sites) == 1):
        said = printable(sites[0])
        raise Refused(
            Code.NOT_ALLOWED,
            "Requests from web pages are not served" if reads else "A web page may change nothing here",
            why=f"the request has the header Sec-Fetch-Site: {said}",
            hint="To read: type the address of the page. To change something: use `pusher` or curl",
        )


def check_host(hosts: Sequence[str], *, allowed: Collection[str]) -> None:
    """Refuse a request that names another server. Raises: Refused(not_allowed)."""
    if len(hosts) != 1 or hosts[0].lower() not in allowed:
        said = " and ".join(printable(host) for host in hosts)
        raise Refused(
            Code.NOT_ALLOWED,
            "The request is for another server",
            why=f"its header is Host: {said}" if said else "it has no Host header",
            hint=f"This server is called {', '.join(sorted(allowed))}",
        )


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a request's target, not decoded. Raises: Refused(not_allowed), if it is not a path."""
    if not target.startswith("/"):
        raise Refused(
            Code.NOT_ALLOWED,
            "This is not a proxy",
            why=f"the request is for {printable(target)}, which is not a path",
            hint="Where http_proxy is set, name this host in NO_PROXY: NO_PROXY=agent,localhost,127.0.0.1",
        )
    path, _, query = target.partition("?")
    return path, query


def parse_query(query: str, *, known: Sequence[str]) -> dict[str, str]:
    """The parameters of a query: each must be known, and have one value. Raises: Refused(bad_request)."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=16)
    except ValueError as error:
        raise Refused(Code.BAD_REQUEST, "The request has too many parameters") from error
    found: dict[str, str] = {}
    for key, value in pairs:
        if key not in known:
            raise Refused(
                Code.BAD_REQUEST,
                f"The request has an unknown parameter: {printable(key)}",
                hint=nearest(key, known) or "This route has no parameters",
            )
        if not value:
            raise Refused(
                Code.BAD_REQUEST,
                f"The request gives the parameter {key} no value",
                hint="Give it one, or leave the parameter out",
            )
        if key in found:
            raise Refused(Code.BAD_REQUEST, f"The request gives the parameter {key} twice")
        found[key] = value
    return found


def nearest(word: str, known: Sequence[str]) -> str:
    """The hint for a `word` that should be one of `known`."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Available: {', '.join(known)}" if known else ""


def printable(text: str) -> str:
    """Text from an unknown sender, short and safe to show."""
    return text[:200].encode("ascii", "backslashreplace").decode()
