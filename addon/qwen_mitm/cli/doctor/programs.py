"""Other programs on this machine: their versions, and whether they trust the proxy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from qwen_mitm.status import STATUS_HOST, STATUS_PATH

from .connections import Place
from .facts import Tunnel

_TIMEOUT_S = 10.0
_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")
#: Exit statuses of curl: a certificate that is not trusted, a bundle that cannot be read.
_UNTRUSTED = frozenset({60, 77})

# CONNECT by hand: Node 20 knows no proxy of its own.
_NODE = """
const at = JSON.parse(process.env.QWEN_MITM_DOCTOR);
const http = require("http"), tls = require("tls");
const end = (outcome, words) => {
  console.log(JSON.stringify({outcome, words: String(words || "")}));
  process.exit(0);
};
const headers = at.authorization ? {"Proxy-Authorization": at.authorization} : {};
const target = at.target + ":" + at.targetPort;
http.request({host: at.host, port: at.port, method: "CONNECT", path: target, headers})
  .on("connect", (answer, socket) => {
    if (answer.statusCode !== 200) end("failed", "CONNECT is answered " + answer.statusCode);
    tls.connect({socket, servername: at.target}, () => end("trusted"))
      .on("error", (error) => end(/CERT|SIGNATURE|ISSUER/.test(error.code || "")
        ? "untrusted" : "failed", error.message));
  })
  .on("error", (error) => end("failed", error.message))
  .end();
"""


def find(name: str) -> str | None:
    return shutil.which(name)


def version_of(path: str) -> str | None:
    """What ``--version`` prints first that looks like one."""
    done = _run([path, "--version"])
    found = _VERSION.search(done.stdout) if done and done.returncode == 0 else None
    return found[0] if found else None


def try_node(place: Place, host: str, port: int) -> Tunnel:
    node = find("node")
    if node is None:
        return Tunnel("absent")
    at = {
        "host": place.host,
        "port": place.port,
        "authorization": place.authorization,
        "target": host,
        "targetPort": port,
    }
    done = _run([node, "-e", _NODE], {"QWEN_MITM_DOCTOR": json.dumps(at)})
    try:
        told = json.loads(done.stdout if done else "")
    except ValueError:
        return Tunnel("failed", "it did not answer")
    return Tunnel(told["outcome"], told["words"])


def try_curl(place: Place) -> Tunnel:
    """A whole request, to the one host that never goes upstream."""
    curl = find("curl")
    if curl is None:
        return Tunnel("absent")
    # In the environment, because a command line can be read by everybody.
    variables = {"https_proxy": place.url, "no_proxy": "", "NO_PROXY": ""}
    limits = ["-q", "--silent", "--show-error", "--max-time", "5", "--output", os.devnull]
    done = _run([curl, *limits, f"https://{STATUS_HOST}{STATUS_PATH}"], variables)
    if done is None:
        return Tunnel("failed", "it did not answer")
    if done.returncode == 0:
        return Tunnel("trusted")
    words = done.stderr.strip().splitlines()
    reason = words[0].removeprefix("curl: ") if words else f"status {done.returncode}"
    return Tunnel("untrusted" if done.returncode in _UNTRUSTED else "failed", reason)


def _run(
    command: Sequence[str], variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command,
            env=os.environ | dict(variables or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
