import os
import threading
import time
from pathlib import Path

import pytest

from qwen_mitm.accounts.files import AccountFileError
from qwen_mitm.accounts.locks import STALE_AFTER_S, Intruded, LockFolder, kernel_lock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "accounts.json"


def test_the_folder_is_the_plugins_name_and_is_gone_afterwards(file: Path) -> None:
    with LockFolder(file).held():
        assert file.with_name("accounts.json.lock").is_dir()
    assert list(file.parent.iterdir()) == []


def test_a_folder_that_the_plugin_holds_is_waited_for(file: Path) -> None:
    folder = file.with_name("accounts.json.lock")
    folder.mkdir()
    releasing = threading.Timer(0.05, folder.rmdir)
    releasing.start()

    with LockFolder(file).held():
        assert not releasing.is_alive()
    assert not folder.exists()


def test_a_folder_that_is_held_for_too_long_is_named_and_left(file: Path) -> None:
    folder = file.with_name("accounts.json.lock")
    folder.mkdir()

    with (
        pytest.raises(AccountFileError, match=r"accounts\.json\.lock"),
        LockFolder(file, timeout_s=0.05).held(),
    ):
        pass

    assert folder.is_dir()


def test_a_stale_folder_of_the_plugin_is_taken_over(file: Path) -> None:
    folder = file.with_name("accounts.json.lock")
    folder.mkdir()
    long_ago = time.time() - STALE_AFTER_S - 1
    os.utime(folder, (long_ago, long_ago))

    with LockFolder(file, timeout_s=1).held():
        assert time.time() - folder.stat().st_mtime < STALE_AFTER_S


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_folder_of_a_killed_process_of_ours_costs_no_wait(file: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        abandoned = LockFolder(file).held()
        abandoned.__enter__()  # and nobody leaves it
        with LockFolder(file, timeout_s=1).held():
            pass
    finally:
        os.umask(before)


def test_a_folder_that_another_program_took_meanwhile_is_noticed_and_left_to_it(file: Path) -> None:
    folder = file.with_name("accounts.json.lock")
    with LockFolder(file).held() as lock:
        folder.rmdir()
        folder.mkdir()
        os.utime(folder, (1, 1))
        with pytest.raises(Intruded):
            lock.confirm()
    assert folder.is_dir()


def test_a_folder_that_vanished_is_noticed(file: Path) -> None:
    with LockFolder(file).held() as lock:
        os.rmdir(lock.path)
        with pytest.raises(Intruded):
            lock.confirm()


def test_confirming_keeps_the_folder_fresh(file: Path) -> None:
    with LockFolder(file).held() as lock:
        first = lock.path.stat().st_mtime_ns
        while time.time_ns() < first + 20_000_000:
            pass
        lock.confirm()
        lock.confirm()
        assert lock.path.stat().st_mtime_ns > first


def test_a_kernel_lock_that_is_held_for_too_long_is_named(tmp_path: Path) -> None:
    with (
        kernel_lock(tmp_path / "lock"),
        pytest.raises(AccountFileError, match="lock"),
        kernel_lock(tmp_path / "lock", timeout_s=0.05),
    ):
        pass


def test_a_kernel_lock_may_be_released_by_another_thread(tmp_path: Path) -> None:
    held = kernel_lock(tmp_path / "lock")
    held.__enter__()
    releasing = threading.Thread(target=held.__exit__, args=(None, None, None))
    releasing.start()
    releasing.join()
    with kernel_lock(tmp_path / "lock", timeout_s=1):
        pass
