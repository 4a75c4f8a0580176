"""Pages that are not the agent's own, in a real browser on the host: none of them reads or changes anything."""

from structlog.testing import capture_logs

from tests.browser.browser import Browser
from tests.browser.foreign import EVIL, NOTHING, attack, serving, tried
from tests.deploy.simulated_agent import SimulatedAgent, opened
from tests.deploy.visitor import visiting


def changes(agent: SimulatedAgent) -> list[object]:
    return [call[0] for app in agent.apps.values() for call in app.calls]


async def test_a_page_of_another_origin_reads_nothing_and_changes_nothing(browser: Browser):
    async with opened("shop", drain_s=0.1) as (door, agent):
        with capture_logs() as logs:
            page = attack(f"http://{door.address}", read="/status", change="/rollback")
            async with serving(lambda: page) as port:
                for name in (EVIL, "127.0.0.1"):  # of another site; and of the same site, at another port
                    assert await tried(browser, f"http://{name}:{port}/") == NOTHING
        assert changes(agent) == []
        refused = [one for one in logs if one["event"] == "refused"]
        assert {one["code"] for one in refused} == {"not_allowed"}


async def test_where_a_browser_does_not_say_who_asks_nothing_can_be_read_or_changed_either(browser: Browser):
    """To a browser, http://agent is no trustworthy origin: it leaves Sec-Fetch-Site out, and often Origin."""
    async with opened("shop", drain_s=0.1) as (door, agent):
        port = door.address.rpartition(":")[2]
        await browser.open(f"http://agent:{port}/")
        await browser.says("shop", "h1")
        await browser.open("about:blank")
        agent.apps["shop"].calls.clear()
        page = attack(f"http://agent:{port}", read="/status", change="/rollback")
        async with serving(lambda: page) as other:
            assert await tried(browser, f"http://{EVIL}:{other}/") == NOTHING
        assert {*changes(agent)} <= {"status"}


async def test_a_rebound_name_gets_nothing_of_the_page(browser: Browser):
    """The name server of evil.example says 127.0.0.1: the door becomes a part of its site."""
    async with opened("shop", drain_s=0.1) as (door, agent):
        port = door.address.rpartition(":")[2]
        await browser.open(f"http://{EVIL}:{port}/")
        await browser.says("The request is for another server")
        script = "return fetch(arguments[0], {method: arguments[1]}).then(r => r.status)"
        assert await browser.run(script, "/status", "GET") == 403
        assert await browser.run(script, "/rollback", "POST") == 403
        assert changes(agent) == []


async def test_even_the_pages_own_scripts_can_change_nothing(browser: Browser):
    """What a hole in the page itself would give to somebody: reading, and nothing else."""
    async with opened("shop", drain_s=0.1) as (door, agent):
        await browser.open(f"http://{door.address}/")
        await browser.says("shop", "h1")
        script = "return fetch(arguments[0], {method: arguments[1]}).then(r => r.status)"
        for path, method in (("/rollback", "POST"), ("/apps/shop/pin?release=R", "DELETE"), ("/cancel", "POST")):
            assert await browser.run(script, path, method) == 403
        assert await browser.run(script, "/status", "GET") == 200
        assert {"rollback", "pin", "cancel"}.isdisjoint(changes(agent))
        # A string never becomes markup, nor a script.
        assert await browser.run(
            "try { document.body.innerHTML = '<b>x</b>'; return 'taken' } catch (error) { return error.name }"
        ) in ("TypeError",)


async def test_headers_of_browsers_are_judged_one_by_one():
    async with visiting("shop") as at:
        host = at.door.address
        good = {
            "GET /status": ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none", f"Origin: http://{host}"],
        }
        bad = {
            "GET /status": [
                "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Sec-Fetch-Site: ", "Origin: null",
                f"Origin: https://{host}", f"Origin: http://{EVIL}", "Origin: http://127.0.0.1:1",
                f"Origin: http://{host}\r\nOrigin: http://{EVIL}",
                "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site",
            ],
            "POST /rollback": ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none", f"Origin: http://{host}"],
            "DELETE /apps/shop/pin?release=R": ["Sec-Fetch-Site: same-origin"],
        }  # fmt: skip
        for line, headers in good.items():
            for header in headers:
                assert (await at.raw(at.head(line, header, "Connection: close"))).status == 200, header
        before = len(at.calls)
        for line, headers in bad.items():
            for header in headers:
                answer = await at.raw(at.head(line, header, "Connection: close"))
                assert (answer.status, answer.json["code"]) == (403, "not_allowed"), header
        assert len(at.calls) == before


async def test_only_files_of_the_page_are_served_and_with_its_policy():
    async with visiting("shop") as at:
        for path in ("/", "/page/page.css", "/page/app.js"):
            answer = await at.curl(path)
            policy = answer.headers["content-security-policy"]
            assert answer.status == 200
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["x-content-type-options"] == "nosniff"
        for path in (
            "/page/actions.js",
            "/page/dashboard.js",
            "/page/__init__.py",
            "/page/..",
            "/page/agent.html",
        ):
            answer = await at.curl(path, "--path-as-is")
            assert (answer.status, answer.json["code"]) == (400, "bad_request"), path
