import logging
import os
import stat
import subprocess
import sys
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.seal import Seal, SealedKind, installed_seal, key_path

ADDON = Path(__file__).parents[1] / "addon"
SEAL = Seal(bytes(32))
OTHER = Seal(bytes(31) + b"\x01")
MAKES_KEYS = """
import sys
from pathlib import Path
from qwen_mitm.seal import installed_seal
print("ready", flush=True)
for line in sys.stdin:
    print(installed_seal(Path(line.rstrip("\\n"))).seal("thought", "of this process"), flush=True)
"""

only_posix = pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
not_as_root = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root may read everything"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "opencode" / "qwen-mitm.key"


@given(text=st.text(st.characters(codec=None, exclude_categories=())))
def test_every_text_comes_back(text: str) -> None:
    assert SEAL.unseal("thought", SEAL.seal("thought", text)) == text


@pytest.mark.parametrize("unit", ["think ", "\U0001f914", "\ud800"])
def test_a_megabyte_comes_back_and_is_compressed(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))

    token = SEAL.seal("compaction", text)

    assert SEAL.unseal("compaction", token) == text
    assert len(token) < 20_000


def test_a_text_that_does_not_compress_grows_by_no_more_than_base64() -> None:
    text = os.urandom(30_000).hex()[:30_000]
    short = SEAL.seal("thought", "hm")

    assert len(SEAL.seal("thought", text)) < 30_000
    assert len(short) < 50


def test_the_token_tells_what_it_is_and_base64_does_not_read_it() -> None:
    text = "the client must not read this thought " * 3

    token = SEAL.seal("thought", text)
    version, _, body = token.partition(".")
    decoded = urlsafe_b64decode(body + "=" * (-len(body) % 4))

    assert version == "qm1"
    assert b"thought" not in decoded
    assert token.isascii()
    assert not set(token) & set(' "\\\n')


def test_the_same_text_is_never_sealed_twice_into_the_same_token() -> None:
    assert len({SEAL.seal("thought", "again") for _ in range(100)}) == 100


def test_the_nonce_is_asked_for_anew_for_every_token() -> None:
    nonces = iter([bytes(12), b"\x01" * 12])
    seal = Seal(bytes(32), nonce=lambda _: next(nonces))

    assert seal.seal("thought", "a") != seal.seal("thought", "a")


@pytest.mark.parametrize(("made", "opened"), [("thought", "compaction"), ("compaction", "thought")])
def test_a_token_does_not_open_as_another_kind(made: SealedKind, opened: SealedKind) -> None:
    assert SEAL.unseal(opened, SEAL.seal(made, "text")) is None


def test_a_token_of_another_installation_does_not_open() -> None:
    assert OTHER.unseal("thought", SEAL.seal("thought", "text")) is None


@given(text=st.text(max_size=80), position=st.integers(0, 10_000), to=st.characters(codec="utf-8"))
def test_a_token_with_one_other_character_does_not_open(text: str, position: int, to: str) -> None:
    token = SEAL.seal("thought", text)
    at = position % len(token)
    changed = token[:at] + to + token[at + 1 :]

    assert changed == token or SEAL.unseal("thought", changed) is None


@given(text=st.text(max_size=80), position=st.integers(0, 10_000))
def test_a_token_that_is_cut_does_not_open(text: str, position: int) -> None:
    token = SEAL.seal("thought", text)

    assert SEAL.unseal("thought", token[: position % len(token)]) is None


@given(token=st.text(st.characters(codec=None, exclude_categories=())))
def test_foreign_text_is_ignored(token: str) -> None:
    assert SEAL.unseal("thought", token) is None
    assert SEAL.unseal("thought", "qm1." + token) is None


@pytest.mark.parametrize(
    "token", ["", "qm1.", "qm1.AAAA", "gAAAAABo-foreign", "qm1." + "A" * 16, "qm2." + "A" * 80]
)
def test_what_others_made_is_ignored(token: str) -> None:
    assert SEAL.unseal("thought", token) is None


@given(text=st.text(max_size=80), space=st.sampled_from([" ", "\n", "=", "=="]))
def test_a_token_with_something_around_it_does_not_open(text: str, space: str) -> None:
    token = SEAL.seal("thought", text)

    assert SEAL.unseal("thought", token + space) is None
    assert SEAL.unseal("thought", space + token) is None


def test_the_key_lies_in_the_configuration_folder_of_opencode(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path), "APPDATA": str(tmp_path)}

    assert key_path(env) == tmp_path / "opencode" / "qwen-mitm.key"


def test_a_restart_opens_what_was_sealed_before(path: Path) -> None:
    token = installed_seal(path).seal("thought", "before")

    assert installed_seal(path).unseal("thought", token) == "before"


@only_posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_key_and_folder_are_for_their_owner_alone(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        installed_seal(path)
    finally:
        os.umask(before)

    assert {stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@only_posix
def test_a_key_that_others_can_read_is_used_and_reported(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = installed_seal(path).seal("thought", "open")
    path.chmod(0o644)

    assert installed_seal(path).unseal("thought", token) == "open"
    assert f"others on this machine can read {path}" in caplog.text


@only_posix
def test_a_folder_that_is_there_keeps_its_mode(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o755)

    installed_seal(path)

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


@only_posix
def test_a_key_that_is_a_symbolic_link_is_made_where_it_points_to(path: Path) -> None:
    path.parent.mkdir()
    elsewhere = path.parent.with_name("elsewhere.key")
    path.symlink_to(elsewhere)

    token = installed_seal(path).seal("thought", "linked")

    assert path.is_symlink()
    assert installed_seal(elsewhere).unseal("thought", token) == "linked"


def test_processes_that_make_the_key_at_once_end_up_with_one(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MAKES_KEYS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ADDON)},
        )
        for _ in range(3)
    ]
    pipes = [(p.stdin, p.stdout) for p in processes if p.stdin and p.stdout]
    assert [output.readline() for _, output in pipes] == ["ready\n"] * 3
    for number in range(20):
        path = tmp_path / str(number) / "qwen-mitm.key"
        for commands, _ in pipes:
            commands.write(f"{path}\n")
            commands.flush()
        tokens = [output.readline().strip() for _, output in pipes]

        seal = installed_seal(path)

        assert [seal.unseal("thought", token) for token in tokens] == ["of this process"] * 3
        names = {entry.name for entry in path.parent.iterdir()}
        assert names <= {"qwen-mitm.key", "qwen-mitm.key.lock-qwen-mitm"}
    for process in processes:
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"not a key\n", b"qm1.AAAA\n", b"qm1." + b"A" * 44 + b"\n", b"\xff" * 40],
)
def test_a_corrupt_key_is_reported_and_left_as_it_is(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)

    seal = installed_seal(path)

    assert seal.unseal("thought", seal.seal("thought", "for now")) == "for now"
    assert path.read_bytes() == content
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{path} is not a key file" in caplog.text


def test_each_process_without_a_lasting_key_has_its_own(path: Path) -> None:
    path.mkdir(parents=True)

    token = installed_seal(path).seal("thought", "lost")

    assert installed_seal(path).unseal("thought", token) is None


def test_a_key_that_cannot_be_read_is_reported(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir(parents=True)

    installed_seal(path)

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text


@not_as_root
def test_a_folder_that_cannot_be_written_is_reported(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir(mode=0o500)

    seal = installed_seal(path)

    assert seal.unseal("thought", seal.seal("thought", "for now")) == "for now"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_place_that_cannot_be_a_folder_is_reported(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.write_text("a file")

    installed_seal(path)

    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_no_warning_shows_the_key(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    installed_seal(path)
    key = path.read_text().strip()
    path.write_text(key[:-1])

    installed_seal(path)

    assert key[4:-1] not in caplog.text
    assert key[4:-1] not in repr(installed_seal(path))
