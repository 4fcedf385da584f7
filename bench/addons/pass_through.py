"""The yardstick: mitmdump hands the upstream's answer on as it comes."""

from mitmproxy import http


def responseheaders(flow: http.HTTPFlow) -> None:
    assert flow.response
    flow.response.stream = True
