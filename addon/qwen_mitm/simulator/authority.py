"""The simulator's own certificate authority."""

from __future__ import annotations

import ssl
from pathlib import Path

NAMES = (
    "localhost",
    "127.0.0.1",
    "::1",
    "portal.qwen.ai",
    "chat.qwen.ai",
    "dashscope.aliyuncs.com",
    "*.dashscope.aliyuncs.com",
    "dashscope-intl.aliyuncs.com",
    "dashscope-us.aliyuncs.com",
    "coding.dashscope.aliyuncs.com",
    "coding-intl.dashscope.aliyuncs.com",
    "cn-hongkong.dashscope.aliyuncs.com",
    "token-plan.cn-beijing.maas.aliyuncs.com",
    "token-plan.ap-southeast-1.maas.aliyuncs.com",
    "*.cn-beijing.maas.aliyuncs.com",
    "*.ap-southeast-1.maas.aliyuncs.com",
)


class MissingExtra(RuntimeError):
    """TLS needs the optional extra ``demo``."""


def tls_context(ca_pem: Path, *, http2: bool) -> ssl.SSLContext:
    """A server context with a fresh leaf; writes the authority's certificate to ``ca_pem``."""
    try:
        import trustme
    except ImportError as error:
        raise MissingExtra(
            "the simulator needs trustme to speak TLS: pip install 'qwen-mitm[demo]',"
            " or run it with --plain"
        ) from error
    authority = trustme.CA(organization_name="Qwen simulator")
    authority.cert_pem.write_to_path(str(ca_pem))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
    authority.issue_cert(*NAMES).configure_cert(context)
    return context
