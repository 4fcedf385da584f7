"""Loaded into mitmproxy beside the addon: a client that asks for another host is turned away."""

import logging

from mitmproxy import http

ALLOWED = ("portal.qwen.ai", "127.0.0.1", "localhost")


class NoOtherHosts:
    def http_connect(self, flow: http.HTTPFlow) -> None:
        if flow.request.host not in ALLOWED:
            logging.info("turned away: %s", flow.request.host)
            flow.response = http.Response.make(403)


addons = [NoOtherHosts()]
