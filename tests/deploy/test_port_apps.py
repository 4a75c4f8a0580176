"""Apps whose server only knows a port, and what a candidate gets: with a whole agent."""

from tests.deploy.test_no_failed_request import Load
from tests.host import APP, Host, running

PORT = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"version": "VERSION"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def port_app(version: str, **more: str) -> dict[str, str]:
    return {"app.py": PORT.replace("VERSION", version), "requirements.txt": "", **more}


async def test_a_server_that_only_knows_a_port_is_deployed_and_rolled_back_like_any_other(host_off: Host) -> None:
    host_off.add_app(APP, start="python app.py $PORT", listen_via="port")
    async with running(host_off) as host:
        await host.deploy(port_app("v1"), "v1")
        async with Load(f"http://127.0.0.1:{host.ports[APP]}/", per_second=50) as load:
            await host.deploy(port_app("v2"), "v2")
            assert await host.serving() == "v2"
            _, answer = await host.rollback()
            assert answer["version"] == "v1"
        assert load.endings.keys() == {"200"}
        assert await host.serving() == "v1"


async def test_a_server_that_listens_elsewhere_is_told_where_it_should(host_off: Host) -> None:
    host_off.add_app(APP, start="python app.py", listen_via="port", health__deadline_s=1)
    elsewhere = port_app("v1")
    elsewhere["app.py"] = "import time; time.sleep(60)"
    async with running(host_off) as host:
        status, problem = await host.send(elsewhere, "v1")
    assert (status, problem["code"]) == (422, "socket_not_taken")
    assert "did not accept at the port it was told" in problem["title"]
    assert "Its command has no $PORT" in problem["hint"]


async def test_a_candidate_gets_a_socket_of_the_kind_that_it_gets_when_it_is_live(host_off: Host) -> None:
    for listen, family in (("", "AF_INET"), (f"unix:/run/{APP}/app.sock", "AF_UNIX")):
        host_off.add_app(APP, start="python family.py", **({"listen": listen} if listen else {}))
        app = f"""
import socket
handed = socket.socket(fileno=3)
assert handed.family.name == {family!r}, handed
while True:
    visitor, _ = handed.accept()
    visitor.recv(10_000)
    visitor.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n{{"version": "v1"}}')
    visitor.close()
"""
        version = family.lower()
        app = app.replace('"v1"', f'"{version}"')
        async with running(host_off) as host:
            answer = await host.deploy({"family.py": app, "requirements.txt": ""}, version)
            assert answer["outcome"] == "done"
