"""Hooks on a bare processor: print each basic block of a loop as it is entered, then the counts."""

from __future__ import annotations

from polyvm import Cpu

CODE = bytes.fromhex(
    "1305a000"  # li a0, 10
    "93850500"  # mv a1, a1
    "b3b5a500"  # sltu a1, a1, a0
    "1305f5ff"  # addi a0, a0, -1
    "e31c05fe"  # bnez a0, -8
    "73000000"  # ecall
)

with Cpu("riscv64") as cpu:
    cpu.map(0x10000, 0x1000, "rx")
    cpu.write(0x10000, CODE)
    hook = cpu.hook_block(lambda cpu, pc: print(f"block at {pc:#x}, a0 = {cpu.regs['a0']}"), 0x10000, 0x10008)
    print(cpu.run(0x10000))
    for block in cpu.count_blocks():
        print(f"{block.pc:#x}: {block.instructions} instructions, entered {block.count} times")
