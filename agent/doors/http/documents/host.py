"""The host: its agent, and its apps."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from agent.doors.http.documents.document import AppName, Document, Problem


class Health(Document):
    """The agent is up."""

    status: Literal["ok"]


class Known(Document):
    """An app of the host."""

    app: AppName
    problem: Problem | None = Field(description="Why its file cannot be used; null if it can")


class Apps(Document):
    """The apps of a host."""

    host: str = Field(description="The name of the host")
    apps: list[Known] = Field(description="`app`, and the `problem` with its file, or null")


class Api(BaseModel):
    """A description in the form of OpenAPI 3.1."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
