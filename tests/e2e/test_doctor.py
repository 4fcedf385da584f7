"""`qwen-mitm doctor` beside a real proxy: well, and with one thing wrong at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import certifi
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from typer.testing import CliRunner

from qwen_mitm.cli import app
from qwen_mitm.cli.doctor.client_checks import TESTED
from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import AccountsOfTest, leaks, limited, log_of
from tests.e2e.conftest import StartProxy
from tests.e2e.flaky import ANSWER, FlakyUpstream, unused_port
from tests.e2e.proxy import Proxy

type Checks = dict[str, dict[str, str]]

NEEDS_NODE = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
NEEDS_CURL = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
#: What is there or not on the machine that runs this.
OPTIONAL = {"trust.node", "trust.curl"}
LOCAL_KEY = "fake-local-key"
#: The authorities that proxies began with, by folder.
PRISTINE: dict[Path, dict[str, bytes]] = {}
OPENCODE = {
    "provider": {
        "qwen": {
            "npm": "@ai-sdk/openai",
            "options": {"baseURL": "https://portal.qwen.ai/v1", "apiKey": "fake-client-key"},
        }
    }
}
CODEX = """model_provider = "qwen"
[model_providers.qwen]
base_url = "https://portal.qwen.ai/v1"
wire_api = "responses"
"""


class Patient:
    """A proxy and a user's home, both well again; tests spoil one thing of it."""

    def __init__(self, home: Path, accounts: AccountsOfTest, proxy: Proxy) -> None:
        accounts.write(accounts.key("plan"), accounts.key("work"))
        for name, content in PRISTINE[proxy.ca.parent].items():
            path = proxy.ca.parent / name
            path.write_bytes(content)
            path.chmod(0o600)
        self.home = home
        self.accounts = accounts
        self.proxy = proxy
        self.confdir = proxy.ca.parent
        self.bundle = home / "bundle.pem"
        self.bundle.write_text(Path(certifi.where()).read_text() + proxy.ca.read_text())
        self.opencode = home / ".config" / "opencode" / "opencode.json"
        self.codex = home / ".codex" / "config.toml"
        self.qwen_json = home / ".config" / "opencode" / "qwen.json"
        self.qwen_json.unlink(missing_ok=True)
        self.words: list[str] = []
        self.env = {
            "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "HTTPS_PROXY": proxy.url,
            "NO_PROXY": "localhost,127.0.0.1",
            "SSL_CERT_FILE": str(self.bundle),
            "CURL_CA_BUNDLE": str(self.bundle),
            "NODE_EXTRA_CA_CERTS": str(self.bundle),
            "CODEX_CA_CERTIFICATE": str(self.bundle),
            "QWEN_OAUTH_BASE_URL": accounts.simulator.url,
        }
        self.install("opencode", TESTED["opencode"])
        self.install("codex", f"codex-cli {TESTED['codex']}")
        self.opencode.write_text(json.dumps(OPENCODE))
        self.codex.parent.mkdir(exist_ok=True)
        self.codex.write_text(CODEX)

    def install(self, name: str, version: str) -> None:
        """A program that tells its version and nothing else."""
        path = self.home / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho '{version}'\n")
        path.chmod(0o755)

    def edit_opencode(self, **provider: Any) -> None:
        document = json.loads(json.dumps(OPENCODE))
        document["provider"]["qwen"] |= provider
        self.opencode.write_text(json.dumps(document))

    def arguments(self) -> list[str]:
        port = [] if "HTTPS_PROXY" in self.env else ["--port", str(self.proxy.port)]
        return ["doctor", *port, *self.words]

    def run(self) -> subprocess.CompletedProcess[str]:
        """As a person does."""
        return subprocess.run(
            [sys.executable, "-m", "qwen_mitm.cli", *self.arguments()],
            env=self.env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def examine(self) -> tuple[int, Checks]:
        """The exit status, and what is not well."""
        env = {**dict.fromkeys(os.environ), **self.env}
        with contextlib.chdir(self.home):
            done = CliRunner().invoke(app, [*self.arguments(), "--json"], env=env)
        assert isinstance(done.exception, SystemExit | None), done.exception
        assert not leaks(done.output)
        assert LOCAL_KEY not in done.output
        document = json.loads(done.stdout)
        assert document["ok"] == (done.exit_code == 0)
        found = {check["id"]: check for check in document["checks"]}
        return done.exit_code, {
            name: check
            for name, check in found.items()
            if check["status"] in ("warning", "fault")
            or (check["status"] == "not_checked" and name not in OPTIONAL)
        }


@contextlib.contextmanager
def started(
    home: Path, confdir: Path, simulator: SimulatorProcess, **arguments: Any
) -> Iterator[tuple[AccountsOfTest, Proxy]]:
    own = home / ".mitmproxy"
    if confdir.exists():
        shutil.copytree(confdir, own)
    accounts = AccountsOfTest(home, simulator)
    accounts.write(accounts.key("plan"), accounts.key("work"))
    env = {"SSL_CERT_FILE": str(simulator.ca_pem), **arguments.pop("env", {})}
    with Proxy(home, own, env=env, options=accounts.options, **arguments) as proxy:
        names = ("mitmproxy-ca.pem", "mitmproxy-ca-cert.pem")
        PRISTINE[own] = {name: (own / name).read_bytes() for name in names}
        yield accounts, proxy
        log_of(proxy)
    simulator.accounts({})


@pytest.fixture(scope="module")
def healthy(
    tmp_path_factory: pytest.TempPathFactory, confdir: Path, simulator_session: SimulatorProcess
) -> Iterator[tuple[AccountsOfTest, Proxy]]:
    with started(tmp_path_factory.mktemp("home"), confdir, simulator_session) as running:
        yield running


@pytest.fixture
def patient(healthy: tuple[AccountsOfTest, Proxy], simulator: SimulatorProcess) -> Patient:
    accounts, proxy = healthy
    return Patient(proxy.home, accounts, proxy)


# Well --------------------------------------------------------------------------------------------


def test_a_healthy_installation_has_nothing_but_the_clock_unchecked(patient: Patient) -> None:
    status, found = patient.examine()
    assert set(found) == {"clock"}
    assert status == 0


def test_a_person_reads_a_line_for_each_check_and_what_to_do(patient: Patient) -> None:
    patient.env["NO_PROXY"] = "*"
    done = patient.run()
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["ok", "proxy"] in [words[:2] for words in lines]
    at = next(i for i, words in enumerate(lines) if words[:2] == ["fault", "env.no_proxy"])
    assert "→" in lines[at + 1]
    assert done.stdout.splitlines()[-1] == "1 fault."
    assert done.returncode == 1


def test_nothing_is_sent_upstream_without_being_asked(patient: Patient) -> None:
    patient.examine()
    assert patient.accounts.simulator.requests() == []


def test_with_probe_each_account_answers(patient: Patient) -> None:
    patient.env["SSL_CERT_FILE"] = str(patient.home / "both.pem")
    both = patient.bundle.read_text() + Path(str(patient.accounts.simulator.ca_pem)).read_text()
    Path(patient.env["SSL_CERT_FILE"]).write_text(both)
    patient.words = ["--probe"]
    status, found = patient.examine()
    assert set(found) == {"clock"}
    assert status == 0
    bearers = [r["account"] for r in patient.accounts.simulator.requests()]
    assert {"plan", "work"} <= set(bearers)


# One fault at a time -----------------------------------------------------------------------------


class Elsewhere(BaseHTTPRequestHandler):
    """A web server that is no proxy."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


def nothing_listens(patient: Patient) -> None:
    patient.env["HTTPS_PROXY"] = f"http://127.0.0.1:{unused_port()}"


def another_program_listens(patient: Patient) -> None:
    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    Thread(target=server.serve_forever, daemon=True).start()
    patient.env["HTTPS_PROXY"] = f"http://127.0.0.1:{server.server_port}"


def the_authority_was_made_anew(patient: Patient) -> None:
    """As after removing the folder while the proxy runs."""
    write_authority(patient, trustme.CA())


def write_authority(patient: Patient, ca: trustme.CA) -> None:
    certificate = ca.cert_pem.bytes()
    (patient.confdir / "mitmproxy-ca-cert.pem").write_bytes(certificate)
    key = patient.confdir / "mitmproxy-ca.pem"
    key.write_bytes(ca.private_key_pem.bytes() + certificate)
    key.chmod(0o600)


def the_authority_is_over(patient: Patient) -> None:
    path = patient.confdir / "mitmproxy-ca.pem"
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    old = x509.load_pem_x509_certificate(patient.proxy.ca.read_bytes())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        old.issuer,
        old.subject,
        old.public_key(),
        old.serial_number,
        now - timedelta(days=20),
        now - timedelta(days=10),
        list(old.extensions),
    )
    over = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    pem = over.public_bytes(serialization.Encoding.PEM)
    patient.proxy.ca.write_bytes(pem)
    path.write_bytes(pem)


def the_authority_is_missing(patient: Patient) -> None:
    patient.proxy.ca.unlink()


def the_private_key_is_open(patient: Patient) -> None:
    (patient.confdir / "mitmproxy-ca.pem").chmod(0o644)


def python_trusts_others_alone(patient: Patient) -> None:
    patient.env["SSL_CERT_FILE"] = certifi.where()


def python_is_given_a_file_that_is_not_there(patient: Patient) -> None:
    patient.env["SSL_CERT_FILE"] = str(patient.home / "gone.pem")


def curl_trusts_others_alone(patient: Patient) -> None:
    patient.env["CURL_CA_BUNDLE"] = certifi.where()


def no_proxy_covers_the_host(patient: Patient) -> None:
    patient.env["NO_PROXY"] = "localhost,.qwen.ai"


def only_http_proxy_is_set(patient: Patient) -> None:
    patient.env["HTTP_PROXY"] = patient.env.pop("HTTPS_PROXY")


def all_proxy_leads_elsewhere(patient: Patient) -> None:
    del patient.env["HTTPS_PROXY"]
    patient.env["ALL_PROXY"] = "socks5://user:fake-key-of-a-proxy@10.0.0.1:1080"


def spellings_differ(patient: Patient) -> None:
    patient.env["https_proxy"] = patient.env["HTTPS_PROXY"]
    patient.env["HTTPS_PROXY"] = "http://10.0.0.1:3128"


def the_account_file_is_missing(patient: Patient) -> None:
    patient.accounts.path.unlink()


def the_account_file_is_no_json(patient: Patient) -> None:
    patient.accounts.put('{"version": 1, "accounts": [')


def the_account_file_is_open(patient: Patient) -> None:
    patient.accounts.path.chmod(0o644)


def an_account_needs_a_login(patient: Patient) -> None:
    login = patient.accounts.oauth("work", needsLogin=True)
    patient.accounts.write(patient.accounts.key("plan"), login)


def an_account_is_limited(patient: Patient) -> None:
    cooldowns = {"*": limited(3600, "window")}
    plan = patient.accounts.key("plan", cooldowns=cooldowns)
    patient.accounts.write(plan, patient.accounts.key("work"))


def no_account_can_be_used(patient: Patient) -> None:
    patient.accounts.write(patient.accounts.key("plan", disabled=True))


def a_variable_is_misspelt(patient: Patient) -> None:
    patient.env["QWEN_ROTATION_STRATEGIE"] = "sticky"


def a_key_is_misspelt(patient: Patient) -> None:
    patient.qwen_json.write_text('{"rotation_stategy": "sticky"}')


def qwen_json_is_no_json(patient: Patient) -> None:
    patient.qwen_json.write_text("{")


def a_setting_has_a_bad_value(patient: Patient) -> None:
    patient.env["QWEN_HEARTBEAT_SECONDS"] = "often"


def the_settings_name_another_host(patient: Patient) -> None:
    patient.env["QWEN_HOSTS"] = "portal.qwen.ai other.test"


def the_proxy_reads_another_account_file(patient: Patient) -> None:
    copy = patient.home / "accounts.json"
    shutil.copy2(patient.accounts.path, copy)
    patient.env["QWEN_ACCOUNTS_FILE"] = str(copy)


def opencode_speaks_chat(patient: Patient) -> None:
    patient.edit_opencode(npm="@ai-sdk/openai-compatible")


def opencode_leads_elsewhere(patient: Patient) -> None:
    patient.edit_opencode(options={"baseURL": "https://api.other.test/v1"})


def the_configuration_of_opencode_is_broken(patient: Patient) -> None:
    patient.opencode.write_text("{ // nothing")


def codex_speaks_chat(patient: Patient) -> None:
    patient.codex.write_text(CODEX.replace("responses", "chat"))


def codex_uses_another_provider(patient: Patient) -> None:
    patient.codex.write_text(CODEX.replace('model_provider = "qwen"', 'model_provider = "other"'))


def codex_is_old(patient: Patient) -> None:
    patient.install("codex", "codex-cli 0.20.0")


PLANTED: list[Any] = [
    (nothing_listens, "proxy", "fault", "qwen-mitm run"),
    (another_program_listens, "proxy", "fault", "--port"),
    (the_authority_was_made_anew, "ca.in_use", "fault", "Start the proxy again"),
    (the_authority_is_over, "ca", "fault", "start it again"),
    (the_authority_is_missing, "ca", "fault", "first start"),
    (the_private_key_is_open, "ca.key", "warning", "chmod 600"),
    (python_trusts_others_alone, "trust.python", "fault", "SSL_CERT_FILE"),
    (python_is_given_a_file_that_is_not_there, "trust.python", "fault", "SSL_CERT_FILE"),
    pytest.param(
        curl_trusts_others_alone, "trust.curl", "warning", "CURL_CA_BUNDLE", marks=NEEDS_CURL
    ),
    (no_proxy_covers_the_host, "env.no_proxy", "fault", "NO_PROXY"),
    (only_http_proxy_is_set, "env.proxy", "fault", "export HTTPS_PROXY="),
    (all_proxy_leads_elsewhere, "env.proxy", "warning", "export HTTPS_PROXY="),
    (spellings_differ, "env.proxy", "warning", "unset one"),
    (the_account_file_is_missing, "accounts.file", "fault", "qwen-mitm login"),
    (the_account_file_is_no_json, "accounts.file", "fault", "mended"),
    (the_account_file_is_open, "accounts.file", "warning", "chmod 600"),
    (an_account_needs_a_login, "account:work", "warning", "qwen-mitm login"),
    (an_account_is_limited, "account:plan", "warning", "clear-cooldown plan"),
    (a_variable_is_misspelt, "settings.unknown", "warning", "QWEN_ROTATION_STRATEGY"),
    (a_key_is_misspelt, "settings.unknown", "warning", "rotation_strategy"),
    (qwen_json_is_no_json, "settings", "fault", "Correct it"),
    (a_setting_has_a_bad_value, "settings", "fault", "Correct it"),
    (the_settings_name_another_host, "hosts", "warning", "QWEN_HOSTS"),
    (the_proxy_reads_another_account_file, "accounts.proxy", "warning", "QWEN_ACCOUNTS_FILE"),
    (opencode_speaks_chat, "opencode.config", "fault", "@ai-sdk/openai"),
    (opencode_leads_elsewhere, "opencode.config", "warning", "qwen-mitm config opencode"),
    (the_configuration_of_opencode_is_broken, "opencode.config", "fault", "Mend it"),
    (codex_speaks_chat, "codex.config", "fault", "wire_api"),
    (codex_uses_another_provider, "codex.config", "warning", "model_provider"),
    (codex_is_old, "codex", "warning", "Update"),
]
#: What cannot be checked when this is at fault.
HIDDEN = {
    "proxy": {"listening", "hosts", "websocket", "ca.in_use", "trust.python"},
    "ca": {"ca.in_use", "websocket", "trust.opencode", "trust.codex"},
    "ca.in_use": {"websocket", "trust.opencode", "trust.codex"},
}


@pytest.mark.parametrize(
    ("plant", "check", "status", "advice"),
    PLANTED,
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_one_fault_is_found_and_no_other(
    patient: Patient, plant: Callable[[Patient], None], check: str, status: str, advice: str
) -> None:
    plant(patient)
    exit_status, found = patient.examine()
    wrong = {name for name in found if found[name]["status"] != "not_checked"}
    assert wrong == {check}
    assert found[check]["status"] == status
    assert advice in found[check]["advice"]
    assert set(found) - wrong <= {"clock"} | HIDDEN.get(check, set())
    assert exit_status == (1 if status == "fault" else 0)


@NEEDS_NODE
def test_programs_that_are_given_other_authorities_are_named(patient: Patient) -> None:
    # Some builds of Node read it, too.
    del patient.env["SSL_CERT_FILE"]
    patient.env["NODE_EXTRA_CA_CERTS"] = certifi.where()
    exit_status, found = patient.examine()
    assert {name: found[name]["status"] for name in found if name != "clock"} == {
        "trust.node": "fault",
        "trust.opencode": "fault",
        "trust.python": "warning",
    }
    assert exit_status == 1


def test_an_account_file_that_cannot_be_looked_at_is_a_fault(patient: Patient) -> None:
    patient.env["QWEN_ACCOUNTS_FILE"] = str(patient.home / ("x" * 300))
    exit_status, found = patient.examine()
    assert found["accounts.file"]["status"] == "fault"
    assert "File name too long" in found["accounts.file"]["message"]
    assert exit_status == 1


def test_several_faults_are_found_together(patient: Patient) -> None:
    python_trusts_others_alone(patient)
    no_proxy_covers_the_host(patient)
    the_account_file_is_open(patient)
    a_variable_is_misspelt(patient)
    opencode_speaks_chat(patient)
    codex_uses_another_provider(patient)
    the_private_key_is_open(patient)
    exit_status, found = patient.examine()
    assert {name: found[name]["status"] for name in found if name != "clock"} == {
        "trust.python": "fault",
        "env.no_proxy": "fault",
        "accounts.file": "warning",
        "settings.unknown": "warning",
        "opencode.config": "fault",
        "codex.config": "warning",
        "ca.key": "warning",
    }
    assert exit_status == 1


def test_no_account_that_can_be_used_is_a_fault(patient: Patient) -> None:
    no_account_can_be_used(patient)
    exit_status, found = patient.examine()
    assert set(found) == {"account:plan", "accounts", "clock"}
    assert found["accounts"]["status"] == "fault"
    assert exit_status == 1


def test_a_key_that_its_host_refuses_is_found_by_a_probe(patient: Patient) -> None:
    simulator = patient.accounts.simulator
    both = patient.bundle.read_text() + Path(str(simulator.ca_pem)).read_text()
    patient.bundle.write_text(both)
    simulator.accounts({"fake-key-work": "work"})
    patient.words = ["--probe"]
    status, found = patient.examine()
    assert set(found) == {"account:plan", "clock"}
    assert "qwen-mitm login" in found["account:plan"]["advice"]
    assert status == 0


@pytest.mark.parametrize(
    ("off_by_s", "status"), [(0, "ok"), (-120, "warning"), (7200, "fault"), (-7200, "fault")]
)
def test_a_clock_that_is_wrong_is_found_by_a_probe(
    patient: Patient, off_by_s: float, status: str
) -> None:
    date = datetime.now(UTC) - timedelta(seconds=off_by_s)
    head = b"HTTP/1.1 200 OK\r\nDate: %s\r\n" % f"{date:%a, %d %b %Y %H:%M:%S GMT}".encode()
    answer = ANSWER.replace(b"HTTP/1.1 200 OK\r\n", head)
    port = unused_port()
    with FlakyUpstream(port, lambda connection, request: answer):
        patient.accounts.write(patient.accounts.key("plan", f"http://127.0.0.1:{port}/v1"))
        patient.words = ["--probe"]
        _, found = patient.examine()
    assert found.get("clock", {"status": "ok"})["status"] == status
    assert set(found) <= {"clock"}


# Other proxies -----------------------------------------------------------------------------------


def test_a_local_key_that_is_not_known_here_is_found(
    tmp_path: Path, confdir: Path, simulator: SimulatorProcess
) -> None:
    env = {"QWEN_LOCAL_KEY": LOCAL_KEY}
    with started(tmp_path, confdir, simulator, env=env) as (accounts, proxy):
        patient = Patient(tmp_path, accounts, proxy)
        status, found = patient.examine()
        assert set(found) == {"websocket", "clock"}
        assert "QWEN_LOCAL_KEY" in found["websocket"]["advice"]
        assert status == 1
        patient.env |= env
        assert set(patient.examine()[1]) == {"clock"}


def test_listening_for_other_machines_is_told(
    tmp_path: Path, confdir: Path, simulator: SimulatorProcess
) -> None:
    env = {"QWEN_LOCAL_KEY": LOCAL_KEY, "QWEN_ALLOW_REMOTE": "true"}
    arguments = ["--mode", "regular@127.0.0.1:0", "--mode", "regular@0.0.0.0:0"]
    with started(tmp_path, confdir, simulator, env=env, arguments=arguments) as (accounts, proxy):
        patient = Patient(tmp_path, accounts, proxy)
        patient.env |= env
        status, found = patient.examine()
        assert set(found) == {"listening", "clock"}
        assert status == 0


def test_a_reverse_proxy_needs_neither_variables_nor_an_authority(
    tmp_path: Path, confdir: Path, simulator: SimulatorProcess
) -> None:
    mode = "reverse:https://portal.qwen.ai"
    with started(tmp_path, confdir, simulator, mode=mode) as (accounts, proxy):
        patient = Patient(tmp_path, accounts, proxy)
        del patient.env["HTTPS_PROXY"]
        status, found = patient.examine()
        assert {check["status"] for check in found.values()} == {"not_checked"}
        assert status == 0


def test_a_proxy_that_wants_a_password_gets_the_one_that_is_named(
    start_proxy: StartProxy, patient: Patient
) -> None:
    arguments = ["--proxyauth", "user:fake-key-of-a-proxy"]
    proxy = start_proxy(arguments=arguments)
    patient.env["HTTPS_PROXY"] = proxy.url
    assert set(patient.examine()[1]) > {"proxy"}
    patient.env["HTTPS_PROXY"] = proxy.url.replace("//", "//user:fake-key-of-a-proxy@")
    assert "proxy" not in patient.examine()[1]
