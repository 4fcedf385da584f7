"""A real mitmweb with the addon, and its API."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from tests.e2e.flaky import unused_port
from tests.e2e.proxy import Proxy

PASSWORD = "fake-web-password"


class Web(Proxy):
    """mitmweb in the place of mitmdump."""

    def __init__(
        self,
        home: Path,
        confdir: Path,
        *,
        options: Mapping[str, str | Sequence[str]],
        **arguments: Any,
    ) -> None:
        own = {
            "web_open_browser": "false",
            "web_password": PASSWORD,
            "web_port": str(unused_port()),
        }
        super().__init__(home, confdir, options={**own, **options}, **arguments)
        self._command[0] = str(Path(sys.executable).with_name("mitmweb"))

    def __enter__(self) -> Self:
        super().__enter__()
        # The line of the web server looks the same to the class for mitmdump.
        log = self.wait_for_log(r"proxy listening at 127\.0\.0\.1:\d+")
        self.port = int(re.findall(r"proxy listening at 127\.0\.0\.1:(\d+)", log)[-1])
        return self

    @property
    def address(self) -> str:
        """Of its interface."""
        log = self.wait_for_log(r"Web server listening at http://[^\s/]+:\d+")
        found = re.search(r"Web server listening at (http://[^\s/]+:\d+)", log)
        assert found
        return found[1]

    def watcher(self) -> httpx.Client:
        """A client for its API. The caller closes it."""
        # What changes something has to prove that it is of the page.
        token = "00" * 16
        return httpx.Client(
            base_url=self.address,
            trust_env=False,
            headers={"authorization": f"Bearer {PASSWORD}", "x-xsrftoken": token},
            # mitmproxy 12.0 has the second name.
            cookies={"_mitmproxy_xsrf": token, "_xsrf": token},
        )
