"""What the commands meet outside: the account file, the settings, hosts, clock and browser."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx
import typer

from qwen_mitm import __version__
from qwen_mitm.accounts.store import AccountStore, accounts_path
from qwen_mitm.oauth.transport import open_client, tls_context
from qwen_mitm.provider_hosts import VENDORS, Vendor
from qwen_mitm.settings import Origin, Settings, ambient_sources, merge


def show_in_browser(address: str) -> bool:
    """Open the person's browser; False where there is none that has a window."""
    if not sys.stderr.isatty() or "SSH_CONNECTION" in os.environ:
        return False
    has_windows = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    try:
        return has_windows and webbrowser.open(address)
    except webbrowser.Error:
        return False


@dataclass(frozen=True)
class Outside:
    """Tests give their own: a simulator in place of each vendor's hosts."""

    vendors: Mapping[str, Vendor] = field(default_factory=lambda: VENDORS)
    show_in_browser: Callable[[str], bool] = show_in_browser
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    """ms since 1970."""

    @classmethod
    def of(cls, context: typer.Context) -> Outside:
        return context.obj if isinstance(context.obj, cls) else cls()

    def settings(self) -> Settings:
        return merge(ambient_sources(os.environ, Path.cwd()))

    def store(self) -> AccountStore:
        return AccountStore(accounts_path(self.settings(), os.environ))

    def client(self, base_url: str) -> httpx.Client:
        """For one host, through the proxy of the environment.

        Our own proxy is one of these for a person who tries a program in the same terminal. It
        would put its own account into requests for the hosts that it claims.
        """
        host = urlsplit(base_url).hostname or ""
        if _is_loopback(host) or (self._is_claimed(base_url) and _proxy_is_here()):
            agent = {"user-agent": f"qwen-mitm/{__version__}"}
            return httpx.Client(trust_env=False, verify=tls_context(), headers=agent)
        return open_client()

    def _is_claimed(self, base_url: str) -> bool:
        parts = urlsplit(base_url)
        return Origin.parse(f"{parts.scheme}://{parts.netloc}") in self.settings().origins


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy_is_here() -> bool:
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all") or ""
    return _is_loopback(urlsplit(proxy if "://" in proxy else f"//{proxy}").hostname or "")
