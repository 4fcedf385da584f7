import asyncio
import os
import signal

import pytest

from qwen_mitm.stopping import Patience, stop_on_hangup


async def test_what_is_done_already_is_not_waited_for() -> None:
    with Patience(0) as patience:
        assert await patience.until(lambda: True)
        assert not await patience.until(lambda: False)


async def test_something_that_comes_about_in_time_is_waited_for() -> None:
    looks = iter([False, False, True])
    with Patience(10) as patience:
        assert await patience.until(lambda: next(looks))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_another_signal_ends_the_wait(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    try:
        with Patience(30) as patience:
            os.kill(os.getpid(), number)
            assert not await patience.until(lambda: False)
    finally:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, before)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no terminals to close")
@pytest.mark.parametrize("is_ignored", [False, True])
async def test_a_closed_terminal_stops_unless_it_is_ignored(is_ignored: bool) -> None:
    before = signal.getsignal(signal.SIGHUP)
    stopped = asyncio.Event()
    signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        stop_on_hangup(stopped.set)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        if not is_ignored:
            await asyncio.wait_for(stopped.wait(), 10)
        assert stopped.is_set() is not is_ignored
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, before)
