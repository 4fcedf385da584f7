"""A small client of chat.qwen.ai for the simulator's own tests."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx

HEADERS = {
    "bx-umidtoken": "fake-umidtoken",
    "cookie": "acw_tc=fake",
    "version": "0.2.66",
    "content-type": "application/json",
}


def new_chat(**fields: Any) -> dict[str, Any]:
    return {
        "title": "New Chat",
        "models": ["qwen3-max"],
        "chat_mode": "guest",
        "chat_type": "t2t",
        "timestamp": int(time.time() * 1000),
    } | fields


def completion(
    chat_id: str, content: str, parent_id: str | None = None, **fields: Any
) -> dict[str, Any]:
    model = fields.get("model", "qwen3-max")
    message = {
        "fid": "f",
        "parentId": parent_id,
        "parent_id": parent_id,
        "childrenIds": [],
        "role": "user",
        "content": content,
        "user_action": "chat",
        "files": [],
        "timestamp": int(time.time()),
        "models": [model],
        "chat_type": "t2t",
        "sub_chat_type": "t2t",
        "feature_config": {"thinking_enabled": False, "output_schema": "phase"},
        "extra": {"meta": {"subChatType": "t2t"}},
    }
    return {
        "stream": True,
        "version": "2.1",
        "incremental_output": True,
        "chat_id": chat_id,
        "chat_mode": "guest",
        "model": model,
        "parent_id": parent_id,
        "messages": [message],
        "timestamp": int(time.time()),
    } | fields


async def create(client: httpx.AsyncClient, **fields: Any) -> str:
    answer = await client.post("/api/v2/chats/new", json=new_chat(**fields))
    chat_id: str = answer.json()["data"]["id"]
    return chat_id


async def say(
    client: httpx.AsyncClient, chat_id: str, content: str, parent_id: str | None = None, **more: Any
) -> httpx.Response:
    body = completion(chat_id, content, parent_id, **more)
    path = f"/api/v2/chat/completions?chat_id={body['chat_id']}"
    return await client.post(path, json=body)


def events(answer: httpx.Response) -> list[Any]:
    lines = answer.text.split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def parent_of(answer: httpx.Response) -> str:
    parent_id: str = events(answer)[0]["response.created"]["parent_id"]
    return parent_id


def text_of(answer: httpx.Response, phase: str = "answer") -> str:
    deltas = [c["delta"] for event in events(answer) for c in event.get("choices", ())]
    return "".join(delta["content"] for delta in deltas if delta.get("phase") == phase)
