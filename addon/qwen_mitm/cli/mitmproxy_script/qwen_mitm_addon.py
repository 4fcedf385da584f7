"""What mitmproxy loads when the package is installed, where addon/main.py is not.

It has a folder of its own because mitmproxy makes that folder the first place of imports.
"""

from qwen_mitm.bridge import QwenBridge

addons = [QwenBridge()]
