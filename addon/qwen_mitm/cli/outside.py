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

from .speech import Complaint


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
        """The account file.

        Raises:
            Complaint: its path names a home folder that there is not.
        """
        settings = self.settings()
        try:
            return AccountStore(accounts_path(settings, os.environ))
        except RuntimeError:
            named = settings.accounts_file
        raise Complaint(
            f"The account file {named} is in the home folder of a user that this machine does not "
            "know. Correct QWEN_ACCOUNTS_FILE, or write the whole path."
            if named
            else "There is no home folder for the account file. Name it in QWEN_ACCOUNTS_FILE."
        )

    def client(self, base_url: str) -> httpx.Client:
        """For one host, through the proxy of the environment.

        Our own proxy is one of these for a person who tries a program in the same terminal. It
        would put its own account into requests for the hosts that it claims.

        Raises:
            Complaint: the environment names certificates or a proxy that cannot be used.
        """
        host = urlsplit(base_url).hostname or ""
        try:
            if is_loopback(host) or (self._is_claimed(base_url) and _proxy_is_here()):
                agent = {"user-agent": f"qwen-mitm/{__version__}"}
                return httpx.Client(trust_env=False, verify=tls_context(), headers=agent)
            return open_client()
        except OSError as error:
            raise _bad_certificates(error) from None
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise _bad_proxy(error) from None

    def _is_claimed(self, base_url: str) -> bool:
        parts = urlsplit(base_url)
        return Origin.parse(f"{parts.scheme}://{parts.netloc}") in self.settings().origins


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy_is_here() -> bool:
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all") or ""
    return is_loopback(urlsplit(proxy if "://" in proxy else f"//{proxy}").hostname or "")


def _bad_certificates(error: OSError) -> Complaint:
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if path := os.environ.get(variable):
            return Complaint(
                f"The certificates of {variable} ({path}) cannot be read: {error.strerror}. Let it "
                "name certificates in PEM format, or unset it."
            )
    return Complaint(f"The certificates of certifi cannot be read: {error}. Install it again.")


def _bad_proxy(error: Exception) -> Complaint:
    """Its address is not repeated, which may hold a password."""
    variable = _unusable_proxy() or "HTTPS_PROXY, ALL_PROXY, HTTP_PROXY or NO_PROXY"
    if isinstance(error, ImportError):
        return Complaint(
            f"{variable} names a SOCKS proxy, which needs the package socksio. Install it "
            "(pip install socksio), name an http proxy, or unset the variable."
        )
    return Complaint(
        f"{variable} names a proxy that cannot be used. Let it be an address such as "
        "http://proxy.example.org:3128, or unset it."
    )


def _unusable_proxy() -> str | None:
    for scheme, address in getproxies().items():
        if scheme not in ("http", "https", "all"):
            continue
        try:
            url = address if "://" in address else f"http://{address}"
            httpx.Client(trust_env=False, verify=False, proxy=url).close()
        except (ValueError, ImportError, httpx.InvalidURL):
            variable = f"{scheme}_proxy"
            # Of the two the lower-case one counts.
            return variable if os.environ.get(variable) else variable.upper()
    return None
