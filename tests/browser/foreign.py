"""Pages of strangers, served on this machine, and what they try."""

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from tests.browser.browser import Browser

EVIL = "evil.example"

ATTACK = """
<!doctype html><title>waiting</title>
<img src="{door}{read}"><script src="{door}/page/app.js"></script><iframe src="{door}/"></iframe>
<form id=form method=post action="{door}{change}" target=frame></form><iframe name=frame></iframe>
<script>
const tried = {{}};
const ask = async (name, path, options) => {{
  try {{ const got = await fetch("{door}" + path, options); tried[name] = `${{got.type}} ${{await got.text()}}`; }}
  catch (error) {{ tried[name] = String(error.name); }}
}};
const all = [
  ask("plain", "{read}"), ask("blind", "{read}", {{mode: "no-cors"}}),
  ask("post", "{change}", {{method: "POST", mode: "no-cors", body: JSON.stringify({members})}}),
  ask("withdrawn", "{change}", {{method: "DELETE"}}),
  ask("json", "{change}", {{method: "POST", headers: {{"Content-Type": "application/json"}},
    body: JSON.stringify({members})}}),
];
form.submit();
Promise.all(all).then(() => {{ window.tried = tried; document.title = "tried"; }});
</script>
"""


@asynccontextmanager
async def serving(page: Callable[[], str]) -> AsyncIterator[int]:
    """A web server of somebody else, on this machine; its port."""

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(text=page(), content_type="text/html")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        await web.SockSite(runner, sock).start()
        yield int(sock.getsockname()[1])
        await runner.cleanup()


def attack(door: str, *, read: str, change: str, **members: str) -> str:
    """A page that tries to read, to change, and to show what is at `door`."""
    return ATTACK.format(door=door, read=read, change=change, members=json.dumps(members))


async def tried(browser: Browser, url: str) -> dict[str, str]:
    """What came of each attempt of such a page."""
    await browser.open(url)
    await browser.until("document.title === 'tried'")
    return dict(await browser.run("return window.tried"))


NOTHING = dict.fromkeys(("plain", "blind", "post", "withdrawn", "json"), "TypeError")
"""How fetch reports that it got nothing."""
