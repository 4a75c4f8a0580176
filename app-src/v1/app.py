"""The demo application, version 1: one page to look at, one to ask which version is live."""

from flask import Flask

GREETING = "Hello from Flask demo v1!"
VERSION = "v1"

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return GREETING


@app.get("/version")
def version() -> dict[str, str]:
    return {"version": VERSION}


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=8000)
