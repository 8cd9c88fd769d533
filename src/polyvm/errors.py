"""The one error tree of polyvm.

    PolyvmError
    ├── UsageError              a request that cannot be carried out as asked (options, paths, arguments)
    ├── UnsupportedError        a host, guest or feature that polyvm does not implement
    ├── GuestError              something about the guest program
    │   ├── ElfError            the file cannot be loaded
    │   │   ├── NotElf
    │   │   ├── TruncatedElf
    │   │   ├── WrongArchitecture
    │   │   └── MissingInterpreter
    │   ├── KernelError         the file is no kernel that can be booted, or does not fit into the machine
    │   └── MemoryFault         an access to guest memory that the page attributes forbid
    ├── ConsoleTimeout          a guest did not print what was waited for
    ├── IrError
    │   ├── VerifyError         IR that breaks a rule of the verifier
    │   ├── ParseError          IR text that cannot be read
    │   └── EvaluationError     IR whose result is undefined for these operands
    ├── EncodingError           an instruction description that contradicts itself or another one
    └── EngineError             the engine cannot go on; always a defect of polyvm or of the host
"""

from __future__ import annotations


class PolyvmError(Exception):
    """Base of every error that polyvm raises on purpose."""


class UsageError(PolyvmError):
    """A request that cannot be carried out as asked."""


class UnsupportedError(PolyvmError):
    """A host, guest or feature that polyvm does not implement."""


class GuestError(PolyvmError):
    """Something about the guest program."""


class ElfError(GuestError):
    """A program file that cannot be loaded."""


class NotElf(ElfError):
    """The file has no ELF magic number."""


class TruncatedElf(ElfError):
    """The file ends before what its headers promise."""


class WrongArchitecture(ElfError):
    """The file is an ELF file for another architecture, class or byte order."""


class MissingInterpreter(ElfError):
    """The dynamic linker named by PT_INTERP is not where the file, a program for `architecture`, says."""

    def __init__(self, text: str, architecture: str = "riscv64") -> None:
        super().__init__(text)
        self.architecture = architecture


class KernelError(GuestError):
    """A kernel image that cannot be booted, or does not fit into the machine."""


class MemoryFault(GuestError):
    """An access to guest memory that the page attributes forbid.

    `address` is the first byte that cannot be accessed, `access` one of ``"r"``, ``"w"``, ``"x"``, `size` the
    number of bytes of the whole access.
    """

    def __init__(self, address: int, access: str, size: int) -> None:
        self.address = address
        self.access = access
        self.size = size
        super().__init__(address, access, size)

    def __str__(self) -> str:
        verb = {"r": "read", "w": "write", "x": "execute"}.get(self.access, self.access)
        return f"cannot {verb} {self.size} bytes of guest memory at {self.address:#x}"


class ConsoleTimeout(PolyvmError):
    """A guest did not print what was waited for."""


class IrError(PolyvmError):
    """A defect in IR or its text."""


class VerifyError(IrError):
    """IR that breaks a rule of the verifier."""


class ParseError(IrError):
    """IR text that cannot be read."""


class EvaluationError(IrError):
    """IR whose result is undefined for these operands."""


class EncodingError(PolyvmError):
    """An instruction description that contradicts itself or another one."""


class EngineError(PolyvmError):
    """The engine cannot go on."""
