"""Random bytes as guest code, in all modes, with devices that answer at random: `python -m tests.accel.hostile [--seconds N] [--seed N]`.

The VMM has to survive, come back when it is told to, and keep its size. Prints what happened, by exit.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import threading
import time
from collections import Counter
from typing import Any

from polyvm.accel import get
from polyvm.errors import EngineError, UnsupportedError
from polyvm.mem.guest import GuestMemory
from polyvm.vcpu.contract import VmConfig
from polyvm.vcpu.machine_exits import Interrupted
from tests.accel.paging import identity

PATIENCE = 2.0  # seconds that a kicked vCPU may take


class RandomBus:
    """Answers at random, and raises at times."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.accesses = 0

    def _value(self) -> int:
        self.accesses += 1
        if self.rng.random() < 0.001:
            raise LookupError("a broken device")
        return self.rng.getrandbits(64)

    def port_read(self, port: int, size: int) -> int:
        assert 0 <= port <= 0xFFFF and size in (1, 2, 4)
        return self._value()

    def port_write(self, port: int, size: int, value: int) -> None:
        assert 0 <= port <= 0xFFFF and 0 <= value < 1 << 8 * size
        self._value()

    def mmio_read(self, address: int, size: int) -> int:
        assert 0 <= address < 1 << 52 and size in (1, 2, 4, 8)
        return self._value()

    def mmio_write(self, address: int, size: int, value: int) -> None:
        assert 0 <= address < 1 << 52 and 0 <= value < 1 << 8 * size
        self._value()


def code(rng: random.Random, size: int) -> bytes:
    """Random bytes, with more accesses to ports and memory than chance would have."""
    if rng.random() < 0.5:
        return rng.randbytes(size)
    parts = (b"\xee", b"\xec", b"\xef", b"\xed", b"\x6e", b"\xf3\x6e", b"\xf3\x6c", b"\xa5", b"\xf3\xa5", b"\xf3\xab", b"\x0f\x30", b"\x0f\x32", b"\x0f\xa2", b"\x90", b"\xf4", b"\xcd\x10", b"\x0f\x01\xd9", b"\xcf", b"\x0f\x22\xc0", b"\x0f\x22\xd8", b"\xfb", b"\xfa")
    out = b""
    while len(out) < size:
        out += rng.choice(parts) if rng.random() < 0.6 else rng.randbytes(rng.randrange(1, 6))
    return out[:size]


def registers(rng: random.Random, regs: Any) -> None:
    for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11"):
        setattr(regs, name, rng.choice((rng.getrandbits(64), rng.getrandbits(16), rng.getrandbits(24), 0xC000_0080, 0xFEE0_0000)))
    regs.rcx &= rng.choice((0xFFFF, 0xFFFF_FFFF_FFFF_FFFF))


def round_(rng: random.Random, counts: Counter[str], deadline: list[float], running: list[Any]) -> None:
    """One VM, some guests."""
    memory = GuestMemory([(0, 0xA0000), (0x100000, 1 << 20)])
    chips = rng.choice(("none", "full", "split"))
    vm = get("kvm").create_vm(VmConfig(memory=memory, irqchip=chips, pit=chips == "full" and rng.random() < 0.5, msr_exits=rng.random() < 0.5))
    bus = RandomBus(rng)
    try:
        vcpu = vm.create_vcpu(0)
        running[0] = vcpu
        for _ in range(20):
            memory.write(0x1000, code(rng, 0x1000))
            memory.write(0, rng.randbytes(0x400))
            special, regs = vcpu.get_special_regs(), vcpu.get_regs()
            mode = rng.choice(("real", "protected", "long"))
            if mode == "real":
                special.real_mode(rng.choice((0, 0x100)))
            elif mode == "protected":
                special.protected_mode()
            else:
                special.long_mode(identity(memory, user=True))
            registers(rng, regs)
            regs.rip, regs.rsp, regs.rflags = 0x1000 + rng.randrange(0x100), 0x9000, 2 | rng.choice((0, 0x200))
            try:
                vcpu.set_special_regs(special)
                vcpu.set_regs(regs)
            except EngineError:
                counts["state refused"] += 1
                return
            deadline[0] = time.monotonic() + 0.02
            while True:
                try:
                    found = vcpu.run_with(bus)
                except LookupError:
                    counts["device raised"] += 1
                    continue
                counts[type(found).__name__] += 1
                vcpu.get_regs()
                if isinstance(found, Interrupted) or time.monotonic() > deadline[0] or rng.random() < 0.3:
                    break
            if time.monotonic() > deadline[0] + PATIENCE:
                raise AssertionError(f"a kicked vCPU came back after {time.monotonic() - deadline[0]:.1f} s")
    except UnsupportedError as error:
        counts[str(error)] += 1
    finally:
        running[0] = None
        vm.close()
        memory.close()
    counts["accesses"] += bus.accesses


def hostile(seconds: float, seed: int) -> tuple[Counter[str], int, int]:
    """Rounds for so many seconds: what happened, and how many descriptors and KiB of memory there are more at the end."""
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    deadline, running, stop = [time.monotonic() + 3600], [None], threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            vcpu = running[0]
            if vcpu is not None and time.monotonic() > deadline[0]:
                vcpu.kick()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    end = time.monotonic() + seconds
    round_(rng, counts, deadline, running)
    descriptors, size = len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while time.monotonic() < end:
        round_(rng, counts, deadline, running)
        counts["rounds"] += 1
    stop.set()
    watcher.join()
    return counts, len(os.listdir("/proc/self/fd")) - descriptors, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    counts, descriptors, size = hostile(arguments.seconds, arguments.seed)
    for name, count in counts.most_common():
        print(f"{count:10} {name}")
    print(f"{descriptors} more descriptors, {size} KiB more memory")


if __name__ == "__main__":
    main()
