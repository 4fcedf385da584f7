"""What is answered where the proxy itself is asked: the status page, its parts, and the metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final
from urllib.parse import urlsplit

from qwen_mitm.admission import is_loopback
from qwen_mitm.exchange import Answer
from qwen_mitm.observing.metrics import CONTENT_TYPE
from qwen_mitm.status import STATUS_HOST, STATUS_PATH, text_answer

METRICS_PATH: Final = "/metrics"

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_GUARDS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_HTML: Final = "text/html; charset=utf-8"
_CSS: Final = "text/css; charset=utf-8"
_JS: Final = "text/javascript; charset=utf-8"


def _own(name: str) -> Traversable:
    return files("qwen_mitm.observing") / "static" / name


def _chart_js() -> Traversable:
    return files("chartkick") / "django" / "static" / "chartkick" / "Chart.bundle.js"


_PARTS: Final[dict[str, tuple[str, Callable[[], Traversable]]]] = {
    "/": (_HTML, lambda: _own("page.html")),
    "/page.css": (_CSS, lambda: _own("page.css")),
    "/page.js": (_JS, lambda: _own("page.js")),
    "/charts.js": (_JS, lambda: _own("charts.js")),
    "/chart.js": (_JS, _chart_js),
    "/icon.svg": ("image/svg+xml", lambda: _own("icon.svg")),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for the proxy itself."""

    method: str
    path: str
    host: str | None
    """What the client believes to ask; None: mitmproxy hid it."""
    is_local: bool
    origin: str | None = None
    fetch_site: str | None = None


type Make = Callable[[], bytes]


def respond(asked: Asked, status: Make, metrics: Make) -> Answer:
    """``status`` and ``metrics`` make the two documents.

    A page that a browser shows can reach loopback ports and this proxy, by names of its own that
    lead here (DNS rebinding). So the name has to be one of ours, and no other site's page may ask.
    """
    path = asked.path.partition("?")[0]
    if not asked.is_local:
        return text_answer(403, "Only programs on this machine may read this.")
    if asked.host is not None and not _is_ours(asked.host):
        return text_answer(403, "This is not the address of the status page.")
    if _is_foreign(asked) and path != "/":
        return text_answer(403, "Other web pages may not read this.")
    if path not in (STATUS_PATH, METRICS_PATH) and path not in _PARTS:
        return text_answer(404, f"The status page is at http://{STATUS_HOST}/.")
    if asked.method not in ("GET", "HEAD"):
        return text_answer(405, "This can only be read.")
    if path == STATUS_PATH:
        return _answer("application/json", status())
    if path == METRICS_PATH:
        return _answer(CONTENT_TYPE, metrics())
    kind, found = _PARTS[path]
    return _answer(kind, found().read_bytes())


def _is_ours(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name.rstrip(".") == STATUS_HOST or is_loopback(name)


def _is_foreign(asked: Asked) -> bool:
    if asked.fetch_site in ("cross-site", "same-site"):
        return True
    return asked.origin is not None and urlsplit(asked.origin).netloc != asked.host


def _answer(kind: str, body: bytes) -> Answer:
    fields = ((b"content-type", kind.encode()), (b"cache-control", b"no-store"), *_GUARDS)
    return Answer(200, fields, body)
