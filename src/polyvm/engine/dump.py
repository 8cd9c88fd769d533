"""What the engine makes of guest code, for people to read: ``--dump=decode,ir,llvm,asm``."""

from __future__ import annotations

from polyvm.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.isa import Decoded, Isa

KINDS = ("decode", "ir", "llvm", "asm", "region", "region-llvm", "region-opt", "region-asm")


def dump(kind: str, isa_name: str, code: bytes, address: int, start: int | None = None) -> str:
    """`code`, guest bytes at `address`, as stage `kind` of the engine sees them; regions begin at `start` (default: `address`).

    ``decode``  the slots: handler and operands of each instruction
    ``ir``      the IR of each instruction with its operands known
    ``llvm``    the optimised LLVM text of each handler that the code uses
    ``asm``     the same as host assembly
    ``region``  the blocks of the region that is compiled from `address` on, found without a profile, and its loops
    ``region-llvm``, ``region-opt``, ``region-asm``  the region as LLVM text, optimised, and as host assembly
    """
    from polyvm.isa import get

    if kind not in KINDS:
        raise UsageError(f"cannot dump {kind!r}: choose from {', '.join(KINDS)}")
    isa = get(isa_name)
    if kind.startswith("region"):
        return _region(kind, isa, code, address, start)
    lines: list[str] = []
    used: list[str] = []
    for pc, word, decoded in _instructions(isa, code, address):
        text = isa.disassemble(word, pc)
        if kind == "decode":
            operands = ""
            if decoded is not None:
                operands = " ".join(f"{name}={value}" for name, value in decoded.operands.items())
            lines.append(f"{pc:#x}: {text:<40} {decoded.insn.name if decoded else 'illegal'} {operands}".rstrip())
        elif decoded is not None and kind == "ir":
            lines += [f"# {pc:#x}: {text}", _ir(isa, decoded)]
        elif decoded is not None and decoded.insn.name not in used:
            used.append(decoded.insn.name)
    if kind in ("llvm", "asm"):
        lines += _native(isa, used, kind)
    return "\n".join(lines)


def _region(kind: str, isa: Isa, code: bytes, address: int, start: int | None) -> str:
    from polyvm.engine.survey import survey
    from polyvm.engine.translate import loops_of, translate

    def read(at: int, size: int) -> bytes:
        return code[at - address : at - address + size] if address <= at < address + len(code) else b""

    begin = address if start is None else start
    spec = survey(isa, read, begin)
    if spec is None:
        raise UsageError(f"there is no instruction at {begin:#x}")
    if kind == "region-llvm":
        return translate(isa, spec).text
    if kind != "region":
        from polyvm.codegen.native import region_views

        translated = translate(isa, spec)
        return region_views(translated.text, loops=translated.loops)[kind == "region-asm"]
    lines: list[str] = []
    for block in sorted(spec.blocks):
        lines.append(f"block {block.pc:#x}, {block.n} instructions")
        lines += [f"    {pc:#x}: {isa.disassemble(word, pc)}" for pc, word, _ in _instructions(isa, block.code, block.pc)]
    for loop in loops_of(isa, spec):
        lines.append(f"loop {loop.header:#x}, {len(loop.blocks)} blocks, {len(loop.covered)} accesses without checks")
    return "\n".join(lines)


def _instructions(isa: Isa, code: bytes, address: int) -> list[tuple[int, int, Decoded | None]]:
    found: list[tuple[int, int, Decoded | None]] = []
    offset = 0
    while offset + 2 <= len(code):
        length = isa.length(int.from_bytes(code[offset : offset + 2], "little"))
        raw = code[offset : offset + length]
        if len(raw) < length:
            break
        word = int.from_bytes(raw, "little")
        found.append((address + offset, word, isa.decode(word)))
        offset += length
    return found


def _ir(isa: Isa, decoded: Decoded) -> str:
    from polyvm.ir.text import print_region

    b = isa.builder()
    decoded.insn.body(b, **{o.name: b.const(o.type, decoded.operands[o.name]) for o in decoded.insn.operands})
    return print_region(b.body)


def _native(isa: Isa, names: list[str], kind: str) -> list[str]:
    from polyvm.codegen.native import compile_views
    from polyvm.engine.interpreter import build, symbol

    llvm, assembly = compile_views(build(isa).text())
    found: list[str] = []
    for name in names:
        handler = f"h_{symbol(name)}"
        if kind == "llvm":
            start = llvm.find(f" @{handler}(")
            start = llvm.rfind("define", 0, start)
            found.append(llvm[start : llvm.find("\n}\n", start) + 2])
        else:
            start = assembly.find(f"\n{handler}:") + 1
            found.append(assembly[start : assembly.find("\t.size", start)].rstrip())
    return found
