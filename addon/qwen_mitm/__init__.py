"""Let any program that speaks the OpenAI Responses API work with Qwen, through mitmproxy."""

__version__ = "0.1.0"
