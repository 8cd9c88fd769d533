"""What exits cost: `python bench/accel.py [--seconds N]`. Needs KVM; the column "C" needs gcc.

    port, MMIO      exits per second of a guest that does nothing else, through `run_with` and through `run`, and the same loop in C
    overhead        CPU time per exit that Python adds to the loop in C
    to first        from making the VM to its guest's first exit
    kick            from `kick` to the return of `run`
    page            a page of guest memory that is touched first, per page
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from polyvm.accel import get
from polyvm.mem.guest import GuestMemory
from polyvm.vcpu.contract import VmConfig
from polyvm.vcpu.machine_exits import PortIo

# Real mode at 0x1000: mov dx, 0x3f8; 1: out dx, al; jmp 1b — and the same with stores to 0xd0000.
PORT = bytes.fromhex("baf803 ee ebfd")
MMIO = bytes.fromhex("b800d0 8ec0 26a21000 ebfa")


class Enough(Exception):
    """The bus has counted far enough."""


class Counting:
    """A bus that counts and ends the loop."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def port_read(self, port: int, size: int) -> int:
        return 0

    def mmio_read(self, address: int, size: int) -> int:
        return 0

    def port_write(self, port: int, size: int, value: int) -> None:
        self.left -= 1
        if not self.left:
            raise Enough

    def mmio_write(self, address: int, size: int, value: int) -> None:
        self.left -= 1
        if not self.left:
            raise Enough


def start(code: bytes):
    memory = GuestMemory([(0, 0xA0000)])
    memory.write(0x1000, code)
    vm = get("kvm").create_vm(VmConfig(memory=memory))
    vcpu = vm.create_vcpu(0)
    special, regs = vcpu.get_special_regs(), vcpu.get_regs()
    special.real_mode(0)
    regs.rip = 0x1000
    vcpu.set_special_regs(special)
    vcpu.set_regs(regs)
    return vm, memory, vcpu


def exits(code: bytes, count: int, loop: str) -> tuple[float, float]:
    """Wall time and CPU time (user and system) of `count` exits, in seconds each."""
    vm, memory, vcpu = start(code)
    for _ in range(100):
        vcpu.run()
    wall, cpu = time.perf_counter(), time.thread_time()
    if loop == "run_with":
        try:
            vcpu.run_with(Counting(count))
        except Enough:
            pass
    else:
        for _ in range(count):
            found = vcpu.run()
            _ = found.port if isinstance(found, PortIo) else found.address
    wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
    vm.close()
    memory.close()
    return wall / count, cpu / count


def in_c(count: int) -> dict[str, tuple[float, float]]:
    """The same loops in C."""
    source = Path(__file__).with_name("programs") / "kvm_exits.c"
    with tempfile.TemporaryDirectory() as place:
        program = Path(place) / "kvm_exits"
        if subprocess.run(["gcc", "-O2", "-o", program, source]).returncode:
            return {}
        found = {}
        for line in subprocess.run([program, str(count)], capture_output=True, text=True, check=True).stdout.splitlines():
            name, wall, cpu = line.split()
            found[name] = (float(wall), float(cpu))
        return found


def first_instruction() -> float:
    began = time.perf_counter()
    vm, memory, vcpu = start(b"\xf4")
    vcpu.run()
    took = time.perf_counter() - began
    vm.close()
    memory.close()
    return took


def kicks(count: int) -> list[float]:
    vm, memory, vcpu = start(b"\xeb\xfe")
    sent = [0.0]
    go = threading.Event()

    def kicker() -> None:
        for _ in range(count):
            go.wait()
            go.clear()
            time.sleep(0.002)
            sent[0] = time.perf_counter()
            vcpu.kick()

    thread = threading.Thread(target=kicker)
    thread.start()
    found = []
    for _ in range(count):
        go.set()
        vcpu.run()
        found.append(time.perf_counter() - sent[0])
    thread.join()
    vm.close()
    memory.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50_000, help="exits of each kind (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds, of which the best counts (default: %(default)s)")
    options = parser.parse_args()
    availability = get("kvm").probe()
    if not availability.present:
        sys.exit(f"KVM: {availability.reason}")
    print(f"KVM {availability.version}; {options.count} exits, best of {options.rounds} rounds\n")
    times: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        for name, found in in_c(options.count).items():
            times.setdefault(f"{name}, C", []).append(found)
        for name, code in (("port", PORT), ("MMIO", MMIO)):
            for loop in ("run_with", "run"):
                times.setdefault(f"{name}, {loop}", []).append(exits(code, options.count, loop))
    print(f"{'':18}{'exits/s':>12}{'µs':>9}{'CPU µs':>9}{'added by Python, CPU µs':>26}")
    for name in ("port", "MMIO"):
        base = min((cpu for _, cpu in times.get(f"{name}, C", [])), default=None)
        for loop in ("C", "run_with", "run"):
            if found := times.get(f"{name}, {loop}"):
                wall, cpu = min(w for w, _ in found), min(c for _, c in found)
                added = f"{(cpu - base) * 1e6:26.2f}" if base is not None and loop != "C" else ""
                print(f"{f'{name}, {loop}':18}{1 / wall:12,.0f}{wall * 1e6:9.2f}{cpu * 1e6:9.2f}{added}")
    print(f"\ncreate to first exit: {statistics.median(first_instruction() for _ in range(50)) * 1e3:.2f} ms (median of 50)")
    found_kicks = sorted(kicks(200))
    print(f"kick to return: {found_kicks[100] * 1e6:.0f} µs median, {found_kicks[197] * 1e6:.0f} µs at 99 %")


if __name__ == "__main__":
    main()
