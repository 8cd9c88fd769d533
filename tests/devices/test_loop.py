"""The thread of the devices."""

from __future__ import annotations

import os
import threading
import time

from polyvm.devices import Loop
from tests.devices.driver import wait_for


def test_calls_timers_and_files_come_on_the_loops_thread() -> None:
    """All callbacks run on one thread, timers in the order of their time."""
    loop, seen = Loop(), list[str]()
    threads: set[int] = set()

    def note(what: str) -> None:
        seen.append(what)
        threads.add(threading.get_ident())

    read, write = os.pipe()
    loop.watch(read, lambda: note("file " + os.read(read, 1).decode()))
    loop.start()
    loop.call_later(0.03, lambda: note("late"))
    loop.call_later(0.01, lambda: note("early"))
    loop.call_later(0.02, lambda: note("never")).cancel()
    loop.call(lambda: note("call"))
    os.write(write, b"a")
    wait_for(lambda: len(seen) == 4)
    loop.stop()
    assert seen[-2:] == ["early", "late"]
    assert sorted(seen[:2]) == ["call", "file a"]
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    os.close(read)
    os.close(write)


def test_a_callback_that_fails_is_reported_and_taken_out() -> None:
    """A defect does not end the loop, nor make it spin."""
    failures: list[BaseException] = []
    loop = Loop(failed=failures.append)
    read, write = os.pipe()
    loop.watch(read, lambda: 1 // 0)
    loop.start()
    os.write(write, b"a")
    wait_for(lambda: failures)
    done = threading.Event()
    loop.call(done.set)
    assert done.wait(5)
    time.sleep(0.02)
    assert len(failures) == 1
    loop.stop()
    os.close(read)
    os.close(write)


def test_loops_leave_no_descriptors() -> None:
    """A stopped loop gives everything back."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        loop = Loop()
        loop.start()
        loop.call_later(100, lambda: None)
        loop.stop()
    assert len(os.listdir("/proc/self/fd")) == before
