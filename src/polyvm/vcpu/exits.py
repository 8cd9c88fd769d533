"""Why native code came back: the exit codes of every engine and accelerator.

Plain integers, since generated code stores them and the run loop compares them on every system call.
"""

from __future__ import annotations

NONE = 0
SYSCALL = 1  # the guest asks its operating system
BREAKPOINT = 2  # a breakpoint instruction
ILLEGAL = 3  # an instruction that this guest does not have
FAULT = 4  # a memory access that the page attributes forbid; address, access and size say which
BUDGET = 5  # max_instructions were executed
STOPPED = 6  # a stop request
HOOK = 7  # an instruction or block that a hook is set on, before it is executed
EVAL = 8  # one instruction for the evaluator: something the host's hardware cannot do exactly
FENCE_I = 9  # the guest synchronises its instruction stream
HOSTFAULT = 10  # the host could not serve an access that the attributes allow (a truncated file mapping)
TICK = 12  # enough samples were taken for the JIT to look at; never seen outside the engine
PROTECT = 13  # a page is to be protected because code is decoded from it, or no longer, before a store; not seen outside
STAMP = 14  # blocks wait for a copy of their handlers' code; not seen outside
WATCH = 11  # an access to watched memory, before it is made

NAMES: dict[int, str] = {
    value: name.lower() for name, value in list(globals().items()) if name.isupper() and isinstance(value, int)
}

# Access kinds in the exit record.
READ, WRITE, EXECUTE = 1, 2, 4
ACCESS_LETTERS: dict[int, str] = {READ: "r", WRITE: "w", EXECUTE: "x"}
