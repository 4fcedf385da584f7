"""Runs agents with the Agents SDK and tells what came of it.

Each line of input is [way, wanted], each line of output an answer. It runs with the Python of
scripts/clients, where nothing of this project is.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from typing import Any

import openai
from agents import (
    Agent,
    AgentsException,
    ApplyPatchTool,
    CustomTool,
    LocalShellTool,
    ModelSettings,
    Runner,
    ShellTool,
    function_tool,
    set_default_openai_client,
)
from openai.types.shared import Reasoning
from pydantic import BaseModel


class Weather(BaseModel):
    city: str
    degrees: int


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


async def get_time(tz: str) -> str:
    """The time in a zone."""
    return f"noon in {tz}"


async def note(_context: Any, text: str) -> str:
    return f"noted {text}"


def run_shell(request: Any) -> str:
    return f"ran {request.data.action.commands}"


def run_local_shell(request: Any) -> str:
    return f"ran {request.data.action.command}"


@dataclass
class Editor:
    """Remembers what it was told to do."""

    done: list[list[str]] = field(default_factory=list)

    def _edit(self, operation: Any) -> str:
        self.done.append([operation.type, operation.path, operation.diff])
        return "edited"

    create_file = update_file = delete_file = _edit


def agent_of(wanted: dict[str, Any], editor: Editor) -> Agent[Any]:
    kinds = {
        "functions": [function_tool(get_weather), function_tool(get_time)],
        "custom": [CustomTool(name="note", description="Takes a note.", on_invoke_tool=note)],
        "shell": [ShellTool(executor=run_shell)],
        "local_shell": [LocalShellTool(executor=run_local_shell)],
        "apply_patch": [ApplyPatchTool(editor=editor)],
    }
    model = wanted.get("model", "qwen3-coder-plus")
    tools = [tool for kind in wanted.get("tools", ()) for tool in kinds[kind]]
    settings = ModelSettings(store=wanted.get("store"))
    if effort := wanted.get("effort"):
        settings.reasoning = Reasoning(effort=effort, summary="auto")
        settings.response_include = ["reasoning.encrypted_content"]
    handoffs = [Agent(name="Expert", model=model)] if wanted.get("handoff") else []
    output_type = Weather if wanted.get("typed") else None
    return Agent(
        name="Clerk",
        instructions="Be brief.",
        model=model,
        model_settings=settings,
        tools=tools,
        handoffs=handoffs,
        output_type=output_type,
    )


async def run(way: str, wanted: dict[str, Any]) -> dict[str, Any]:
    editor = Editor()
    agent = agent_of(wanted, editor)
    how = {"auto_previous_response_id": wanted.get("continues", False)}
    seen: list[str] = []
    if way == "run":
        result = await Runner.run(agent, wanted["said"], **how)
    else:
        result = Runner.run_streamed(agent, wanted["said"], **how)
        async for event in result.stream_events():
            if way == "abort" and event.type == "raw_response_event" and seen:
                result.cancel()
            if event.type == "raw_response_event":
                delta = getattr(event.data, "delta", None)
                if event.data.type == "response.output_text.delta" and delta:
                    seen.append(delta)
    output = result.final_output
    return {
        "output": output.model_dump() if isinstance(output, Weather) else output,
        "streamed": "".join(seen),
        "agent": result.last_agent.name,
        "items": [item.type for item in result.new_items],
        "results": [i.output for i in result.new_items if i.type == "tool_call_output_item"],
        "edits": editor.done,
        "usage": [
            result.context_wrapper.usage.requests,
            result.context_wrapper.usage.output_tokens,
        ],
    }


async def answer_to(way: str, wanted: dict[str, Any]) -> dict[str, Any]:
    # One for each: it belongs to the event loop.
    async with openai.AsyncOpenAI(max_retries=0, timeout=20) as client:
        set_default_openai_client(client)
        try:
            return await run(way, wanted)
        except openai.APIStatusError as error:
            return {
                "error": type(error).__name__,
                "status": error.status_code,
                "code": error.code,
                "message": error.message,
            }
        except AgentsException as error:
            return {"error": type(error).__name__, "message": str(error)}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(asyncio.run(answer_to(*json.loads(line)))), flush=True)
