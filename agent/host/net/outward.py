"""What every request out of this host needs: the proxies that the environment names, and a server's `Retry-After`.

Invariant: nothing here asks anybody.
"""

import base64
import email.utils
import re
import time
from collections.abc import Callable, Mapping
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from yarl import URL

LONGEST_S = 24 * 3_600.0
"""No server may make us wait longer."""


def proxies(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The proxies that an environment names (by default that of this process), by scheme."""
    if environment is None:
        found: dict[str, str] = getproxies_environment()
        return found
    return {
        key.lower().removesuffix("_proxy"): value
        for key, value in environment.items()
        if key.lower().endswith("_proxy") and value
    }


def proxy(url: URL, known: dict[str, str]) -> str | None:
    """The proxy for an address, if there is one (curl(1), ENVIRONMENT)."""
    return None if proxy_bypass_environment(url.host or "", known) else known.get(url.scheme)


def basic(login: str, password: str) -> str:
    """The `Authorization` of a login (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{login}:{password}'.encode()).decode()}"


def retry_after(text: str, *, now: Callable[[], float] = time.time) -> float:
    """How many seconds to wait, as `Retry-After` says (RFC 9110, section 10.2.3); 0 if it says nothing."""
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return min(float(text), LONGEST_S)
    try:
        at = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return 0
    return min(max(at - now(), 0), LONGEST_S)
