"""How the model shall think and what its text shall be: fields of a request and of an update."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from qwen_mitm.wire.content import Wire
from qwen_mitm.wire.request_tools import AnyObject, Echoed

type Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"]


class ReasoningConfig(Wire):
    model_config = ConfigDict(extra="allow")

    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None


class PlainFormat(Echoed):
    type: Literal["text", "json_object"]


class JsonSchemaFormat(Echoed):
    type: Literal["json_schema"]
    name: str = Field(min_length=1)
    schema_: AnyObject = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextConfig(Echoed):
    format: Annotated[PlainFormat | JsonSchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
