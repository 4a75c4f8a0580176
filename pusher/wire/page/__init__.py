"""The page that shows a host, or several, in a browser: the names of its files, and the headers they go with.

Invariant: a file is served because its name is in one of these tables, never because a path led to it. The files
themselves lie beside this module, as a browser reads them: there is no step that builds them. The agent and
`pusher` serve the same ones, so they are here, in the part that both may import (docs/adr/0031-a-page.md).
"""

from collections.abc import Mapping
from typing import Final

_HTML, _CSS = "text/html; charset=utf-8", "text/css; charset=utf-8"
_SCRIPT, _SVG = "text/javascript; charset=utf-8", "image/svg+xml"

AGENT_START: Final = "agent.html"
"""What an agent serves at `/`."""

DASHBOARD_START: Final = "dashboard.html"
"""What `pusher dashboard` serves at `/`."""

_BOTH = {
    "page.css": _CSS,
    "icon.svg": _SVG,
    "api.js": _SCRIPT,
    "dom.js": _SCRIPT,
    "words.js": _SCRIPT,
    "app.js": _SCRIPT,
    "live.js": _SCRIPT,
    "deployment.js": _SCRIPT,
    "releases.js": _SCRIPT,
    "history.js": _SCRIPT,
    "log.js": _SCRIPT,
    "timeline.js": _SCRIPT,
}

AGENT_FILES: Final[Mapping[str, str]] = {**_BOTH, "agent.js": _SCRIPT}
"""What an agent serves beneath `/page/`, and the type of each. None of them can change anything."""

DASHBOARD_FILES: Final[Mapping[str, str]] = {
    **_BOTH,
    "dashboard.js": _SCRIPT,
    "actions.js": _SCRIPT,
    "fleet.js": _SCRIPT,
}
"""What `pusher dashboard` serves beneath `/page/`."""

START_TYPE: Final = _HTML

PAGE_HEADERS: Final[Mapping[str, str]] = {
    # Scripts and styles are these files alone. With Trusted Types, a browser that knows them refuses every string
    # as markup: an `innerHTML` in a script would be an error, not a hole.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
