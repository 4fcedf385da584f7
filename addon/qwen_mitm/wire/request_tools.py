"""The tools that a Responses request offers, and its tool_choice (responses-to-chat §4, §5)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, SkipValidation, Tag

from qwen_mitm.wire.response_object import JsonObject

# JsonValue validates node by node in Python; what the JSON parser made is a JSON value already.
type AnyJson = Annotated[JsonValue, SkipValidation]
type AnyObject = dict[str, Annotated[JsonValue, SkipValidation]]


class Echoed(BaseModel):
    """A part of the request that the Response object repeats as it was sent."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)

    def echo(self) -> JsonObject:
        """The keys that the client sent, and no others; shares what is inside of them."""
        fields = type(self).model_fields
        sent = {
            fields[name].alias or name: _plain(value)
            for name, value in self.__dict__.items()
            if name in self.model_fields_set
        }
        return {**sent, **(self.model_extra or {})}


def _plain(value: object) -> JsonValue:
    """Undoes what validation made of JSON: models of objects and tuples of arrays."""
    match value:
        case Echoed():
            return value.echo()
        case tuple():
            return [_plain(element) for element in value]
        case None | bool() | int() | float() | str() | dict() | list():
            return value
        case _:
            raise TypeError(value)


class FunctionTool(Echoed):
    type: Literal["function"]
    name: str = Field(min_length=1)
    description: str | None = None
    parameters: AnyObject | None = None
    strict: bool | None = None


class AnyText(Echoed):
    type: Literal["text"]


class Grammar(Echoed):
    type: Literal["grammar"]
    syntax: str
    definition: str


class CustomTool(Echoed):
    """A tool whose input is free text."""

    type: Literal["custom"]
    name: str = Field(min_length=1)
    description: str | None = None
    format: Annotated[AnyText | Grammar, Field(discriminator="type")] | None = None


class ToolSearchTool(Echoed):
    """Finds tools that were not offered; OpenAI searches unless ``execution`` is client."""

    type: Literal["tool_search"]
    execution: Literal["server", "client"] | None = None
    description: str | None = None
    parameters: AnyObject | None = None


class LocalShellTool(Echoed):
    type: Literal["local_shell"]


class ShellEnvironment(Echoed):
    type: str


class ShellTool(Echoed):
    type: Literal["shell"]
    environment: ShellEnvironment | None = None


class ApplyPatchTool(Echoed):
    type: Literal["apply_patch"]


class HostedTool(Echoed):
    """A tool that OpenAI would run itself."""

    type: str


class UnknownTool(Echoed):
    type: str


CLIENT_TOOLS: Final = frozenset(
    {"function", "namespace", "custom", "tool_search", "local_shell", "shell", "apply_patch"}
)
_HOSTED_TOOLS: Final = frozenset(
    {
        "file_search",
        "code_interpreter",
        "image_generation",
        "mcp",
        "programmatic_tool_calling",
        # Model Studio's own.
        "web_extractor",
    }
)


def _is_hosted(kind: str) -> bool:
    # Both come with dates and versions in their names: web_search_preview_2025_03_11.
    return kind in _HOSTED_TOOLS or kind.startswith(("web_search", "computer"))


def _tool_tag(tool: object) -> str | None:
    if not isinstance(tool, dict):
        return None
    kind = tool.get("type")
    if not isinstance(kind, str):
        return "<unknown>"
    if kind in CLIENT_TOOLS:
        return f"<{kind}>"
    return "<hosted>" if _is_hosted(kind) else "<unknown>"


def _member_tag(tool: object) -> str | None:
    tag = _tool_tag(tool)
    return "<unknown>" if tag == "<namespace>" else tag


type MemberTool = Annotated[
    Annotated[FunctionTool, Tag("<function>")]
    | Annotated[CustomTool, Tag("<custom>")]
    | Annotated[ToolSearchTool, Tag("<tool_search>")]
    | Annotated[LocalShellTool, Tag("<local_shell>")]
    | Annotated[ShellTool, Tag("<shell>")]
    | Annotated[ApplyPatchTool, Tag("<apply_patch>")]
    | Annotated[HostedTool, Tag("<hosted>")]
    | Annotated[UnknownTool, Tag("<unknown>")],
    Discriminator(_member_tag),
]


class NamespaceTool(Echoed):
    type: Literal["namespace"]
    name: str = Field(min_length=1)
    description: str | None = None
    tools: tuple[MemberTool, ...]


type Tool = Annotated[
    Annotated[FunctionTool, Tag("<function>")]
    | Annotated[NamespaceTool, Tag("<namespace>")]
    | Annotated[CustomTool, Tag("<custom>")]
    | Annotated[ToolSearchTool, Tag("<tool_search>")]
    | Annotated[LocalShellTool, Tag("<local_shell>")]
    | Annotated[ShellTool, Tag("<shell>")]
    | Annotated[ApplyPatchTool, Tag("<apply_patch>")]
    | Annotated[HostedTool, Tag("<hosted>")]
    | Annotated[UnknownTool, Tag("<unknown>")],
    Discriminator(_tool_tag),
]


type ChoiceMode = Literal["auto", "none", "required"]


class NamedChoice(Echoed):
    type: Literal["function", "custom"]
    name: str = Field(min_length=1)
    namespace: str | None = None


class BuiltInChoice(Echoed):
    """A tool that is known by its type: ``apply_patch``, ``shell``, every hosted one."""

    type: str


class AllowedTool(Echoed):
    type: str
    name: str | None = None
    namespace: str | None = None


class AllowedTools(Echoed):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: tuple[AllowedTool, ...]


def _choice_tag(choice: object) -> str:
    if not isinstance(choice, dict):
        return "<mode>"
    match choice.get("type"):
        case "function" | "custom":
            return "<named>"
        case "allowed_tools":
            return "<allowed>"
        case _:
            return "<built-in>"


type ToolChoice = Annotated[
    Annotated[ChoiceMode, Tag("<mode>")]
    | Annotated[NamedChoice, Tag("<named>")]
    | Annotated[AllowedTools, Tag("<allowed>")]
    | Annotated[BuiltInChoice, Tag("<built-in>")],
    Discriminator(_choice_tag),
]
