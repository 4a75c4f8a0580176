"""Packages for tests: wheels, source archives whose build code leaves a mark, and an index that has some."""

import base64
import io
import ssl
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.web_server import Silent, WebServer, serving


def wheel(
    name: str, version: str = "1", *, files: Mapping[str, str] | None = None, needs: str = "", python: str = ""
) -> bytes:
    """A wheel with one module, which says its version, and one script. It may need a package, and a Python."""
    info = f"{name}-{version}.dist-info"
    needed = f"Requires-Dist: {needs}\n" if needs else ""
    needed += f"Requires-Python: {python}\n" if python else ""
    members = {
        f"{name}.py": f"def main():\n    print({version!r})\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
        **(files or {}),
    }
    members[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*members, f"{info}/RECORD"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), text)
    return content.getvalue()


def sdist(name: str, version: str = "1", *, code: str = "") -> bytes:
    """A source archive that builds the wheel of the same name by code of its own, which first runs `code`."""
    file = f"{name}-{version}-py3-none-any.whl"
    packed = base64.b64encode(wheel(name, version))
    members = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "back"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\n',
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "back.py": f"""
import base64, os
{code}
def build_wheel(folder, *_, **__):
    with open(os.path.join(folder, {file!r}), "wb") as file:
        file.write(base64.b64decode({packed!r}))
    return {file!r}
""",
    }
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path, text in members.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


@contextmanager
def index(
    packages: Mapping[str, bytes] | None = None,
    *,
    password: str = "",
    certificate: Path | None = None,
    asked: list[tuple[str, str]] | None = None,
) -> Iterator[str]:
    """A package index with these files (`tiny`, unless given); the URL of its simple pages.

    It asks for a password if there is one, and speaks TLS with a certificate. `asked` gets the path and the
    Authorization of each request.
    """
    files = packages or {"tiny-1-py3-none-any.whl": wheel("tiny")}
    wanted = "Basic " + base64.b64encode(f"somebody:{password}".encode()).decode()

    class Index(Silent, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            if asked is not None:
                asked.append((self.path, given))
            if password and given != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            name = self.path.rstrip("/").rpartition("/")[2]
            page = self.path.endswith("/")
            links = [one for one in files if one.partition("-")[0] == name]
            body = "".join(f'<a href="/{one}">{one}</a>' for one in links).encode() if page else files[name]
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html" if page else "application/zip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

    server = WebServer(Index)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        scheme = "https" if certificate else "http"
        yield f"{scheme}://127.0.0.1:{server.server_port}/simple"
