"""The user's program of the demo: the official client, and a proxy in its environment alone.

It prints each request that it makes and each event that the client gives it, as JSON lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from openai import OpenAI, Stream
from openai.types.responses import Response, ResponseStreamEvent

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city, now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


def get_weather(city: str) -> str:
    return f"{city}: sunny, 24 °C, wind from the east"


def ask(client: OpenAI, request: Mapping[str, Any]) -> Response:
    print(json.dumps({"type": "request", "request": request}), flush=True)
    events: Stream[ResponseStreamEvent] = client.responses.create(**request, stream=True)
    for event in events:
        print(event.to_json(indent=None), flush=True)
        if event.type == "response.completed":
            return event.response
    raise SystemExit("the stream ended without response.completed")


def main() -> None:
    client = OpenAI(max_retries=0)
    ask(
        client,
        {
            "model": "qwen3-coder-plus",
            "instructions": "Answer in one sentence.",
            "input": "Say hello to somebody who has just started qwen-mitm.",
        },
    )
    ask(
        client,
        {
            "model": "qwen3.8-max",
            "input": "Is 2027 a prime number?",
            "reasoning": {"effort": "medium", "summary": "auto"},
        },
    )
    question = {"role": "user", "content": "Do I need an umbrella in Hangzhou?"}
    tools = {"model": "qwen3-coder-plus", "tools": [WEATHER]}
    answer = ask(client, {**tools, "input": [question], "tool_choice": "required"})
    conversation: list[Any] = [question]
    for item in answer.output:
        conversation.append(item.to_dict())
        if item.type == "function_call":
            result = get_weather(**json.loads(item.arguments))
            conversation.append(
                {"type": "function_call_output", "call_id": item.call_id, "output": result}
            )
    ask(client, {**tools, "input": conversation})


if __name__ == "__main__":
    main()
