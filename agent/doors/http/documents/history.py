"""An app's history, as the door tells it."""

from pydantic import BaseModel, Field

from agent.doors.http.documents.document import AppName, Document, Sha256


class Head(Document):
    """The head of the history that the end of a deployment was added to."""

    records: int = Field(ge=0)
    head: Sha256


class History(Document):
    """The head of an app's history."""

    records: int = Field(ge=0, description="How many records there are")
    head: Sha256 = Field(description="The hash of the last one")
    problem: str = Field(description="The first thing that does not fit; empty if all does")


class Record(BaseModel):
    """One record of an app's history; its other members depend on `what`."""

    app: AppName
    record: int = Field(ge=1)
    what: str
