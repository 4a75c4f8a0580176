"""How those who are told how deployments end can be reached."""

from typing import Literal

from pydantic import Field

from agent.doors.http.documents.document import Document, Time


class Way(Document):
    """How a way to tell others how deployments end stands."""

    way: Literal["web", "mail"] = Field(description="By HTTP, or by mail")
    address: str = Field(description="Who is told; of an address only its host")
    waiting: int = Field(description="How many notices wait")
    left_out: int = Field(description="How many were never delivered")
    failures: int = Field(description="How many attempts in a row have failed")
    problem: str = Field(description="What was wrong last; empty if nothing is")
    since: Time | None = Field(description="Since when it fails")
    next: Time | None = Field(description="When it is tried again")


class TestedWay(Document):
    """How the test of a way went."""

    way: Literal["web", "mail"] = Field(description="By HTTP, or by mail")
    address: str = Field(description="Who is told; of an address only its host")
    problem: str = Field(description="Why the test did not arrive; empty if it did")


class Tested(Document):
    """How the tests went."""

    ways: list[TestedWay] = Field(description="Each way that `[notify]` in agent.toml names")
