"""What the addon needs of mitmproxy's options and servers, and refuses to run with."""

from __future__ import annotations

import logging
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mitmproxy import ctx, exceptions, http, version
from mitmproxy.proxy.mode_specs import ReverseMode

from qwen_mitm import __version__
from qwen_mitm.accounts.ledger import Ledger
from qwen_mitm.accounts.model import Account
from qwen_mitm.admission import is_loopback, peers_may_be_remote
from qwen_mitm.authorities import with_more
from qwen_mitm.errors import BridgeError
from qwen_mitm.observing.page import Asked
from qwen_mitm.observing.present import Present
from qwen_mitm.outward import Outward
from qwen_mitm.reporting import Reports
from qwen_mitm.reports import WORKER_VARIABLE, Ready
from qwen_mitm.settings import (
    OPTION_PREFIX,
    Settings,
    SettingsError,
    Source,
    from_options,
    merge,
)
from qwen_mitm.status import STATUS_HOST, Skew, Status

logger = logging.getLogger(__name__)


def checked_settings(ambient: Sequence[Source]) -> Settings:
    """The settings that are in force.

    Raises:
        SettingsError: one of them, or one of mitmproxy's own options, cannot be used.
    """
    settings = merge([*ambient, from_options(ctx.options)])
    unknown = sorted(name for name in ctx.options.deferred if name.startswith(OPTION_PREFIX))
    if unknown:
        raise SettingsError(
            f"unknown option {', '.join(unknown)}. qwen-mitm options lists them all."
        )
    if ctx.options.ssl_insecure and not settings.allow_insecure:
        raise SettingsError(
            "ssl_insecure would send credentials to whoever answers. Use "
            "ssl_verify_upstream_trusted_ca for a private CA, or set qwen_allow_insecure."
        )
    _check_interception(settings)
    if settings.allow_remote and not peers_may_be_remote(settings):
        raise SettingsError("qwen_allow_remote needs qwen_local_key (QWEN_LOCAL_KEY).")
    return settings


def listen_on_loopback(settings: Settings) -> None:
    """mitmproxy listens on all interfaces, in some versions before scripts are loaded."""
    addresses = ctx.master.addons.get("proxyserver").listen_addrs()
    if peers_may_be_remote(settings) or all(is_loopback(a[0]) for a in addresses):
        return
    modes = list(ctx.options.mode)
    if ctx.options.listen_host in ("", "127.0.0.1") and not any("@" in m for m in modes):
        ctx.options.update(mode=[f"{mode}@127.0.0.1:{addresses[0][1]}" for mode in modes])
        return
    logger.error(
        "qwen-mitm: listening beyond this machine would let others use the accounts. Listen "
        "on 127.0.0.1, or set qwen_allow_remote and qwen_local_key."
    )
    ctx.master.shutdown()


def warn_of_risks(ledger: Ledger) -> None:
    """Say what the user should know before the first request."""
    if ctx.options.ssl_insecure:
        logger.warning(
            "qwen-mitm: UPSTREAM CERTIFICATES ARE NOT CHECKED (ssl_insecure and "
            "qwen_allow_insecure): anybody on the way can read your credentials."
        )
    store = ledger.store
    if store.too_open():
        logger.warning(
            "qwen-mitm: others on this machine can read %s. Run: chmod 600 %s",
            store.path,
            store.path,
        )
    try:
        ledger.accounts()
    except BridgeError as error:
        logger.warning("qwen-mitm: %s", error.message)


def is_own_port(host: str, port: int) -> bool:
    """mitmproxy's own guard against connecting to itself has gaps (reverse:https)."""
    if host not in ("localhost", ctx.options.listen_host) and not is_loopback(host):
        return False
    addresses = ctx.master.addons.get("proxyserver").listen_addrs()
    return any(address[1] == port for address in addresses)


def take_network_proxies(outward: Outward) -> None:
    """Say which proxies upstream connections go through, and leave out ourselves."""
    for problem in outward.problems:
        logger.warning("qwen-mitm: %s; upstream connections do not use it.", problem)
    for proxy in outward.proxies:
        if is_own_port(proxy.host, proxy.port):
            outward.without(proxy)
            logger.info("qwen-mitm: %s is this proxy; upstream connections do not use it.", proxy)
        else:
            logger.info(
                "qwen-mitm: upstream connections go through %s, but for the hosts of NO_PROXY.",
                proxy,
            )


def trust_more(env: Mapping[str, str], folder: Path) -> None:
    """Trust the authorities of SSL_CERT_FILE, too, unless the user has chosen others."""
    options = ctx.options
    chosen = options.ssl_verify_upstream_trusted_ca or options.ssl_verify_upstream_trusted_confdir
    named = env.get("SSL_CERT_FILE")
    if chosen or not named:
        return
    own = Path(options.confdir).expanduser() / "mitmproxy-ca-cert.pem"
    try:
        found = with_more(Path(named), own, folder)
    except OSError as error:
        logger.warning("qwen-mitm: SSL_CERT_FILE (%s) is not used: %s", named, error.strerror)
        return
    if found is not None:
        path, count = found
        options.update(ssl_verify_upstream_trusted_ca=str(path))
        logger.info(
            "qwen-mitm: upstream connections also trust %d authorities of SSL_CERT_FILE (%s).",
            count,
            named,
        )


def asked_of_proxy(flow: http.HTTPFlow) -> str | None:
    """The path that the proxy itself is asked for; None: the request is for somebody else.

    A reverse proxy is asked below its own address, because mitmproxy hides the Host header of its
    clients; others understand that, too, for those who do not know the mode.
    """
    request = flow.request
    prefix = f"/{STATUS_HOST}"
    is_below = request.path.startswith(f"{prefix}/")
    if isinstance(flow.client_conn.proxy_mode, ReverseMode):
        is_asked = is_below
    else:
        is_asked = request.host.rstrip(".").lower() == STATUS_HOST
    return request.path.removeprefix(prefix if is_below else "") if is_asked else None


def present(
    settings: Settings, ledger: Ledger, skew: Skew | None, open_streams: int, currency: str
) -> Present:
    """What holds now, for the status page and the metrics."""
    accounts: Sequence[Account] = ()
    problem = None
    try:
        accounts = ledger.views()
    except BridgeError as error:
        problem = error.message
    return Present(
        status=status(settings, None if ledger.is_embedded else ledger.store.path, skew),
        accounts=accounts,
        problem=problem,
        open_streams=open_streams,
        now_ms=time.time_ns() // 1_000_000,
        base_url=settings.base_url,
        currency=currency,
    )


def asked(flow: http.HTTPFlow, path: str) -> Asked | None:
    """A request for the proxy itself; None: the name that the client used is not known."""
    request = flow.request
    if isinstance(flow.client_conn.proxy_mode, ReverseMode):
        return None
    return Asked(
        method=request.method,
        path=path,
        host=request.host,
        is_local=is_loopback(flow.client_conn.peername[0]),
        origin=request.headers.get("origin"),
        fetch_site=request.headers.get("sec-fetch-site"),
    )


def users() -> Callable[[str, str], bool] | None:
    """Who may use the proxy, if it asks for that (``proxyauth``)."""
    addon = ctx.master.addons.get("proxyauth")
    return addon.validator if addon else None


def status(settings: Settings, accounts_file: Path | None, skew: Skew | None) -> Status:
    """What this proxy says of itself."""
    addresses = ctx.master.addons.get("proxyserver").listen_addrs()
    worker, _, workers = os.environ.get(WORKER_VARIABLE, "1/1").partition("/")
    return Status(
        version=__version__,
        mitmproxy=version.VERSION,
        python=platform.python_version(),
        pid=os.getpid(),
        worker=int(worker),
        workers=int(workers),
        modes=tuple(mode.partition("@")[0] for mode in ctx.options.mode),
        listen=tuple(dict.fromkeys(address[0] for address in addresses)),
        confdir=str(Path(ctx.options.confdir).expanduser()),
        hosts=tuple(sorted(str(origin) for origin in settings.origins)),
        accounts_file=None if accounts_file is None else str(accounts_file),
        allow_remote=peers_may_be_remote(settings),
        needs_local_key=bool(settings.local_key.get_secret_value()),
        skew=skew,
    )


def tell_the_starter(reports: Reports, settings: Settings) -> None:
    """Say where everything is, and end when the starter ends."""
    # In a new home mitmproxy makes its CA here, and its turn would come after ours:
    # https://github.com/mitmproxy/mitmproxy/blob/v12.2.3/mitmproxy/addons/tlsconfig.py#L466
    ctx.master.addons.get("tlsconfig").running()
    _, port, *_ = ctx.master.addons.get("proxyserver").listen_addrs()[0]
    reports.send(
        Ready(
            port=port,
            ca=str(Path(ctx.options.confdir).expanduser() / "mitmproxy-ca-cert.pem"),
            hosts=tuple(sorted(str(origin) for origin in settings.origins)),
            web=getattr(ctx.master, "web_url", None),
        )
    )
    reports.when_the_starter_ends(ctx.master.shutdown)


def _check_interception(settings: Settings) -> None:
    """mitmproxy's own lists must not take a claimed host away: the client's key would pass."""
    for origin in settings.origins:
        address = f"{origin.host}:{origin.port}"

        def listed(patterns: Sequence[str], address: str = address) -> bool:
            return any(re.search(pattern, address, re.IGNORECASE) for pattern in patterns)

        if listed(ctx.options.ignore_hosts):
            raise SettingsError(f"ignore_hosts covers {address}, which qwen_hosts claims.")
        if ctx.options.allow_hosts and not listed(ctx.options.allow_hosts):
            raise SettingsError(f"allow_hosts leaves out {address}, which qwen_hosts claims.")


def take_deferred_options() -> None:
    """Read what was set for our options before they were known.

    mitmproxy would do it after ``load``, and without a word drop the addon at a value that does not
    fit: the client's own requests would go upstream with its own key.
    """
    deferred = ctx.options.deferred
    for name in [name for name in deferred if name.startswith(OPTION_PREFIX)]:
        others = {key: value for key, value in deferred.items() if key != name}
        for key in others:
            del deferred[key]
        try:
            ctx.options.process_deferred()
        except (exceptions.OptionsError, TypeError, ValueError) as error:
            logger.error("qwen-mitm: %s cannot be set so: %s", name, error)
            deferred.clear()
        deferred.update(others)
