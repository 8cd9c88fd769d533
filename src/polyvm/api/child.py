"""The host process behind a `polyvm.Process`: runs the guest and answers what its parent asks."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from polyvm.api import launch
from polyvm.api.control import EXHAUSTED, FAILED, RUNNING, Channel, pack_error
from polyvm.api.registers import Registers
from polyvm.errors import UsageError

if TYPE_CHECKING:
    from polyvm.linux import Process
    from polyvm.linux.process import Thread


def main(descriptor: int) -> None:
    """Run the guest that the channel behind `descriptor` asks for; ends the process."""
    channel = Channel(descriptor, create=False)
    os.close(descriptor)
    record: dict[str, Any] = json.loads(channel.payload)
    try:
        process = launch.prepare(launch.Launch.from_record(record))
        if record["stopped"]:
            process.pause()
    except Exception as error:  # whatever it is, the parent raises it
        channel.announce(FAILED, pack_error(error))
        os._exit(launch.EXIT_BUDGET + 1)
    _start_server(channel, process)
    channel.announce(RUNNING)
    summary = launch.execute(process)
    channel.set_counts(summary.statistics.instructions, summary.seconds)
    if summary.exhausted:
        channel.set_state(EXHAUSTED)
    sys.stdout.flush()
    channel.finish()  # a guest that was resumed may end before its parent has heard so
    os._exit(launch.end(summary.status))


def _start_server(channel: Channel, process: Process) -> None:
    def serve() -> None:
        while True:
            channel.serve_one(lambda request, data: _answer(process, request, data))

    # A signal for the guest must reach one of the guest's threads: this one takes none.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    threading.Thread(target=serve, name="polyvm-control", daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(process: Process, request: dict[str, Any], data: bytes) -> bytes:
    op = request["op"]
    if op == "stop":
        process.pause()
    elif op == "resume":
        process.resume()
    elif op == "threads":
        return json.dumps([thread.tid for thread in process.threads]).encode()
    elif op == "instructions":
        return str(process.statistics().instructions).encode()
    elif op == "registers":
        return json.dumps(dict(_registers(_thread(process, request["thread"])))).encode()
    elif op == "set_register":
        try:
            _registers(_thread(process, request["thread"]))[request["name"]] = request["value"]
        except KeyError as error:
            raise UsageError(str(error.args[0])) from None
    elif op == "read":
        return process.arena.peek(request["address"], request["size"])
    elif op == "write":
        process.arena.poke(request["address"], data)
    else:
        raise UsageError(f"there is no request {op!r}")
    return b""


def _thread(process: Process, tid: int) -> Thread:
    for thread in process.threads:
        if tid in (0, thread.tid):
            return thread
    raise UsageError(f"the process has no thread {tid}")


def _registers(thread: Thread) -> Registers:
    return Registers(thread.core, thread.core.isa_name)
