"""A JSON document that the door sends, and what the members of several are."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from pusher.wire import Code


class Document(BaseModel):
    """A document. Clients ignore members that they do not know."""

    model_config = ConfigDict(extra="forbid", strict=False)


AppName = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9-]*[a-z0-9]$", min_length=2, max_length=31, description="The name of the app"),
]
Version = Annotated[str, Field(description="What its sender calls it, as `v3`")]
DeploymentId = Annotated[str, Field(description="The app's name, a dash, and when it began")]
ReleaseId = Annotated[str, Field(description="The id of a release")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Manifest = Annotated[Sha256 | None, Field(description="SHA-256 of the signed manifest; null if it is not known")]
Time = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", json_schema_extra={"format": "date-time"})
]
Ms = Annotated[int, Field(description="How long it took, in milliseconds")]
Outcome = Annotated[Literal["done", "failed", "stuck"], Field(description="How it ended")]
By = Annotated[str, Field(description="Who asked for it, for people")]


class Problem(Document):
    """What could not be done (RFC 9457)."""

    type: Literal["about:blank"] = "about:blank"
    title: str = Field(description="What could not be done")
    detail: str | SkipJsonSchema[None] = Field(None, description="Why")
    hint: str | SkipJsonSchema[None] = Field(None, description="What to do next")
    output: str | SkipJsonSchema[None] = Field(None, description="The output of another program")
    code: Code = Field(description="What a program should read")
    outcome: Literal["refused", "failed", "stuck"] = Field(
        description="Nothing was done; it was undone; a person is needed"
    )
    status: int | SkipJsonSchema[None] = Field(None, description="The status of the answer")
    instance: str | SkipJsonSchema[None] = Field(None, description="The path of the deployment, if there was one")
