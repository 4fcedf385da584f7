import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from qwen_mitm.cli.children import DemoFailure, client_lines

DEMO = [sys.executable, "-m", "qwen_mitm.cli", "demo"]
ENV = {
    **os.environ,
    "PYTHONUNBUFFERED": "1",
    "PYTHONPATH": str(Path(__file__).parents[2] / "addon"),
}


def ports_in(output: str) -> list[int]:
    """Of the simulator and of mitmdump."""
    return [
        int(port) for port in re.findall(r"(?m)^(?:upstream|proxy) .*127\.0\.0\.1:(\d+)", output)
    ]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_demo_shows_text_thought_and_tools_and_leaves_nothing_running() -> None:
    foreign = {
        "QWEN_API_KEY": "fake-key-of-the-person",
        "QWEN_HOSTS": "not a host",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "https_proxy": "http://127.0.0.1:9",
        "NO_PROXY": "*",
        "SSL_CERT_FILE": "/no/such/authorities.pem",
        "SSL_CERT_DIR": "/no/such/authorities",
        "REQUESTS_CA_BUNDLE": "/no/such/authorities.pem",
        "TERM": "dumb",
    }

    done = subprocess.run(
        DEMO, env=ENV | foreign, capture_output=True, encoding="utf-8", timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "says  You said “Say hello" in done.stdout
    assert "thinks  The user wants an answer." in done.stdout
    assert 'calls  get_weather {"city": "Hangzhou"}' in done.stdout
    assert "says  The tools said “Hangzhou: sunny, 24 °C" in done.stdout
    assert done.stdout.count("response.completed") == 4
    assert "\x1b" not in done.stdout
    assert "fake-key-of-the-person" not in done.stdout
    ports = ports_in(done.stdout)
    assert len(ports) == 2
    assert not any(is_open(port) for port in ports)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_stops_what_it_started(number: signal.Signals) -> None:
    with subprocess.Popen(
        DEMO, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as demo:
        assert demo.stdout
        assert demo.stderr
        seen = ""
        while "says" not in seen:
            piece = demo.stdout.read(1)
            assert piece, f"the demo ended after: {seen}"
            seen += piece
        assert all(is_open(port) for port in ports_in(seen))
        demo.send_signal(number)
        rest = demo.stdout.read()
        errors = demo.stderr.read()

    assert demo.returncode == 130
    assert "Stopped, with all that was started." in rest
    assert errors == ""
    assert not any(is_open(port) for port in ports_in(seen))


def test_a_proxy_that_does_not_start_fails_the_demo_with_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "addon.py"
    broken.write_text("import fake_module_that_is_missing\n")
    program = (
        "import pathlib, sys; from qwen_mitm.cli import demo, launch; "
        f"launch.SCRIPT = pathlib.Path({str(broken)!r}); sys.exit(demo.run())"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], env=ENV, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 1
    assert "The demo failed: The proxy did not start" in done.stdout
    assert "fake_module_that_is_missing" in done.stdout


def test_with_web_the_same_traffic_is_in_mitmweb_until_an_interrupt() -> None:
    with subprocess.Popen(
        [*DEMO, "--web"], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as demo:
        assert demo.stdout
        seen = ""
        while "Ctrl-C ends it." not in seen:
            line = demo.stdout.readline()
            assert line, f"the demo ended after: {seen}"
            seen += line
        found = re.search(r"open (http://127\.0\.0\.1:\d+/)\?(token=\w+)", seen)
        assert found, seen
        flows = httpx.get(f"{found[1]}flows?{found[2]}", trust_env=False).json()
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()

    assert [flow["request"]["path"] for flow in flows] == ["/v1/chat/completions"] * 4
    assert demo.returncode == 0
    assert "All of it worked." in rest


def test_a_client_that_ends_badly_fails_with_what_it_said(tmp_path: Path) -> None:
    settings = {"OPENAI_API_KEY": "fake-key", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}

    with pytest.raises(DemoFailure, match="APIConnectionError"):
        list(client_lines(settings, tmp_path))
