"""A headless Chromium, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from websockets.sync.client import connect

PROGRAM = shutil.which("chromium")
_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_PATIENCE_S = 30.0
_LOOK_S = 0.05
#: Chromium answers with whole pictures.
_LARGEST = 64 * 2**20


class Browser:
    """One page of this size. ``profile`` is an empty folder; ``proxy``: a URL.

    ``complaints`` are the errors of its scripts, and what it could not load or was not to.
    """

    def __init__(
        self, profile: Path, width: int = 1200, height: int = 720, *, proxy: str | None = None
    ) -> None:
        self.complaints: list[str] = []
        self._route = f"--proxy-server={proxy}" if proxy else "--no-proxy-server"
        self._profile = profile
        self._size = (width, height)
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        assert PROGRAM
        width, height = self._size
        self._process = subprocess.Popen(
            [
                PROGRAM,
                *_QUIET,
                self._route,
                f"--user-data-dir={self._profile}",
                f"--window-size={width},{height}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._socket = connect(self._address(), max_size=_LARGEST, proxy=None)
        except BaseException:
            self._end()
            raise
        self._resize(width, height)
        for domain in ("Runtime", "Log"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._end()

    def look(self, width: int, height: int, scheme: Literal["light", "dark"]) -> None:
        """Change the size, and the colours that its user prefers; a narrow one is a phone."""
        self._resize(width, height)
        preferred = {"name": "prefers-color-scheme", "value": scheme}
        self._call("Emulation.setEmulatedMedia", features=[preferred])

    def open(self, url: str) -> None:
        # An address that differs in its fragment alone would be no new page.
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self) -> str:
        """All that can be read on the page."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def wait_for(self, words: str) -> str:
        """The page's text once it has these words; raises TimeoutError."""
        self.wait_until(f"document.body && document.body.innerText.includes({json.dumps(words)})")
        return self.text()

    def wait_until(self, script: str) -> None:
        """Until an expression holds; raises TimeoutError."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self.run(script):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{script} does not hold on:\n{self.text()[:4000]}")
            time.sleep(_LOOK_S)

    def screenshot(self, path: Path) -> None:
        picture = self._call("Page.captureScreenshot", format="png", optimizeForSpeed=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            reply = json.loads(self._socket.recv(_PATIENCE_S))
            if reply.get("id") == number:
                assert "error" not in reply, reply
                result: dict[str, Any] = reply["result"]
                return result
            self._note(reply.get("method"), reply.get("params", {}))

    def _note(self, event: str | None, told: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif event == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    def _resize(self, width: int, height: int) -> None:
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **screen)

    def _address(self) -> str:
        """That of the one page."""
        told = self._profile / "DevToolsActivePort"
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if told.exists() and "\n" in (text := told.read_text()):
                port = text.partition("\n")[0]
                found = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
                pages = [one for one in found if one["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            time.sleep(_LOOK_S)
        raise TimeoutError("Chromium did not start")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
