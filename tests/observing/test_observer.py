from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from qwen_mitm.observing.observer import Observer
from qwen_mitm.observing.page import Asked
from qwen_mitm.reports import Fault, RequestRefused
from qwen_mitm.settings import Settings
from tests.observing.test_metrics import present
from tests.observing.turns import a_turn

STATUS = Asked("GET", "/status.json", "qwen.mitm", is_local=True)
METRICS = Asked("GET", "/metrics", "qwen.mitm", is_local=True)


@pytest.fixture
def observer(tmp_path: Path) -> Observer:
    return Observer(present, lambda: None, {"XDG_STATE_HOME": str(tmp_path)})


def test_one_record_is_counted_remembered_and_added_to_its_day(observer: Observer) -> None:
    observer.tell(a_turn("plan", input=1000, output=126))
    observer.tell(RequestRefused(line="", fault=Fault(message="no 'input'", status=400)))

    status = json.loads(observer.answer(STATUS).body)
    observed = status["observed"]
    assert status["pid"] == 4711
    assert [account["name"] for account in observed["accounts"]] == ["plan", "work"]
    assert [moment["account"] for moment in observed["moments"]] == ["plan"]
    assert [failure["message"] for failure in observed["failures"]] == ["no 'input'"]
    (day,) = observed["days"]
    assert (day["account"], day["turns"], day["input"]) == ("plan", 1, 1000)
    metrics = observer.answer(METRICS).body
    assert b'qwen_turns_total{account="plan",model="qwen3-coder-plus",outcome="completed"} 1.0' in (
        metrics
    )
    assert b"fake-key" not in metrics + observer.answer(STATUS).body
    observer.close()


def test_nothing_is_kept_on_disk_when_the_setting_says_so(
    observer: Observer, tmp_path: Path
) -> None:
    observer.follow(Settings(days_kept=0))
    observer.tell(a_turn("plan", input=7))
    assert json.loads(observer.answer(STATUS).body)["observed"]["days"][0]["input"] == 7
    observer.close()
    assert list(tmp_path.iterdir()) == []


class Collector(BaseHTTPRequestHandler):
    """What receives spans over HTTP."""

    received: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append(gzip.decompress(body) if self.headers["content-encoding"] else body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


async def test_spans_are_sent_where_the_variables_of_opentelemetry_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "fake-service")
    observer = Observer(present, lambda: None, {"XDG_STATE_HOME": str(tmp_path)})
    observer.follow(Settings(otel=True, days_kept=0))
    observer.tell(a_turn("plan", "work", statuses=(429,)))
    observer.close()
    server.shutdown()
    thread.join()
    server.server_close()
    (body,) = Collector.received
    for part in (b"fake-service", b"chat qwen3-coder-plus", b"attempt plan", b"attempt work"):
        assert part in body


def test_what_is_not_asked_for_is_not_imported() -> None:
    script = (
        "import sys, qwen_mitm.bridge\n"
        "print(*(n for n in ('opentelemetry', 'tornado', 'chartkick') if n in sys.modules))"
    )
    path = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
