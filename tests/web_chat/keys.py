"""Obviously fake credentials of chat.qwen.ai."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

from qwen_mitm.web_chat.credentials import Credentials, read_credentials

TOKEN = "fake-umidtoken-0001"
COOKIES = "acw_tc=fake-acw-0001; x-ap=fake-ap-0001"


def jwt(expires_at: float) -> str:
    def part(document: object) -> str:
        return urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part({'id': 'u', 'exp': expires_at})}.fake-signature"


def credentials(name: str = "0001", expires_at: float | None = None) -> Credentials:
    login = f"; token={jwt(expires_at)}" if expires_at else ""
    return read_credentials(f"fake-umidtoken-{name}", f"acw_tc=fake-acw-{name}{login}")
