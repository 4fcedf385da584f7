"""What mitmproxy loads: ``mitmdump -s addon/main.py``."""

from qwen_mitm.bridge import QwenBridge

addons = [QwenBridge()]
