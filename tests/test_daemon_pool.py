import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest

from qwen_mitm.daemon_pool import DaemonPool

HANGING = """
import threading
from qwen_mitm.daemon_pool import DaemonPool
started = threading.Event()
def hang():
    started.set()
    threading.Event().wait()
DaemonPool(1, "test").submit(hang)
started.wait()
print("ended")
"""


def test_one_thread_takes_tasks_in_the_order_of_the_calls() -> None:
    pool, order = DaemonPool(1, "test"), list[int]()
    for number in range(50):
        pool.submit(order.append, number)
    pool.shutdown()
    assert order == list(range(50))


def test_tasks_run_side_by_side_up_to_the_limit() -> None:
    pool, meeting = DaemonPool(3, "test"), threading.Barrier(3)
    futures = [pool.submit(meeting.wait, 10) for _ in range(6)]
    assert sorted(future.result(10) for future in futures) == [0, 0, 1, 1, 2, 2]
    pool.shutdown()


def test_a_thread_that_has_nothing_to_do_is_used_again() -> None:
    pool = DaemonPool(8, "test")
    names = set()
    for _ in range(20):
        names.add(pool.submit(lambda: threading.current_thread().name).result(10))
        while not pool._idle._value:
            pass
    assert len(names) == 1
    pool.shutdown()


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    pool = DaemonPool(1, "test")
    future: Future[int] = pool.submit(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        future.result(10)
    assert pool.submit(int, "7").result(10) == 7
    pool.shutdown()


def test_after_its_end_it_takes_no_more_tasks() -> None:
    pool = DaemonPool(1, "test")
    pool.shutdown()
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(int)


def test_what_waits_can_be_cancelled() -> None:
    pool, gate = DaemonPool(1, "test"), threading.Event()
    running, waiting = pool.submit(gate.wait, 10), pool.submit(int)
    while not running.running():
        pass
    pool.shutdown(wait=False, cancel_futures=True)
    gate.set()
    assert running.result(10)
    assert waiting.cancelled()


def test_a_process_ends_although_a_thread_hangs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == "ended\n"
