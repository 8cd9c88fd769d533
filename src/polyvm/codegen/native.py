"""LLVM text to object code: the only module that imports llvmlite, and only when something must be compiled."""

from __future__ import annotations

from functools import lru_cache

import llvmlite.binding as llvm

from polyvm.errors import EngineError


@lru_cache(maxsize=1)
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # for accesses that the host may refuse
    # Nobody needs to know what else is live at a patch point, and LLVM fails where that is a register without a DWARF number.
    llvm.set_option("polyvm", "-enable-patchpoint-liveness=false")


def host_cpu() -> str:
    """LLVM's name and feature string of the host CPU; part of every cache key."""
    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


# Not used: rare exits of regions save sixteen vector registers (`engine/exits.py`), and wide ones make some processors slower.
# LLVM clears the upper halves of vector registers at a return even where the convention (preserve_allcc) preserves them.
_WITHOUT = "".join(f",-avx512{part}" for part in ("f", "vl", "bw", "dq", "cd", "fp16", "bf16")) + ",-vzeroupper"


@lru_cache(maxsize=4)
def _machine(level: int) -> llvm.TargetMachine:
    _initialise()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten() + _WITHOUT,
        opt=level,
        reloc="pic",
        codemodel="small",
    )


def _parse(text: str) -> llvm.ModuleRef:
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise EngineError(f"LLVM refuses generated code: {error}") from None
    return module


def _optimise(module: llvm.ModuleRef, machine: llvm.TargetMachine, level: int) -> None:
    if level == 0:
        return
    tuning = llvm.create_pipeline_tuning_options(speed_level=level)
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)


def compile_object(text: str, level: int = 2) -> bytes:
    """A relocatable ELF object from LLVM `text`, optimised at `level` (0 to 3)."""
    machine = _machine(level)
    module = _parse(text)
    _optimise(module, machine, level)
    data: bytes = machine.emit_object(module)
    return data


# What another process compiles: its standard input, to its standard output.
_OTHER = (
    "import sys; sys.path[:0] = {path!r}; from polyvm.codegen.native import compile_object; "
    "sys.stdout.buffer.write(compile_object(sys.stdin.read(), {level}))"
)


def compile_objects(texts: list[str], level: int = 2) -> list[bytes]:
    """The objects of several modules, each compiled in a process of its own, but for the first: LLVM takes one thread at a
    time."""
    import subprocess
    import sys
    from threading import Thread

    command = [sys.executable, "-c", _OTHER.format(path=sys.path, level=level)]
    others = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in texts[1:]]
    results: list[bytes] = [b""] * len(texts)

    def wait(number: int, process: subprocess.Popen[bytes], text: str) -> None:
        results[number] = process.communicate(text.encode())[0]

    threads = [Thread(target=wait, args=(i, p, t)) for i, (p, t) in enumerate(zip(others, texts[1:], strict=True), 1)]
    for thread in threads:
        thread.start()
    try:
        results[0] = compile_object(texts[0], level)
    finally:
        for thread in threads:
            thread.join()
    for number, process in enumerate(others, 1):
        if process.returncode:
            results[number] = compile_object(texts[number], level)
    return results


_MUCH = 600_000  # bytes of LLVM text that its whole pipeline takes too long for
_QUICK = ("instruction_combine",)
# LLVM's own pipelines begin by merging blocks, which takes many times as long while the guest's registers are still stack slots.
_FIRST = ("sroa", "instruction_combine", "simplify_cfg")
# For code without loops that have a copy: the whole pipeline takes several times as long and finds little more. NewGVN must not
# be among these: it has miscompiled a region of a compression library.
_STRAIGHT = ("sroa", "simplify_cfg", "instruction_combine", "sccp", "aggressive_dce", "simplify_cfg", "instruction_combine")


def compile_region_object(text: str, *, full: bool, loops: bool) -> bytes:
    """The object of a region; `full`: worth more time, `loops`: worth the whole pipeline."""
    machine = _machine(2 if full else 1)
    data: bytes = machine.emit_object(_optimised_region(text, machine, full=full, loops=loops))
    return data


def _optimised_region(text: str, machine: llvm.TargetMachine, *, full: bool, loops: bool) -> llvm.ModuleRef:
    module = _parse(text)
    if not full:
        _run_passes(module, machine, _QUICK)
    elif not loops or len(text) > _MUCH:
        _run_passes(module, machine, _STRAIGHT)
    else:
        _run_passes(module, machine, _FIRST)
        _optimise(module, machine, 2)
    try:
        module.verify()  # code that is not compiled is better than code that is wrong
    except RuntimeError as error:
        raise EngineError(f"LLVM has broken a region: {error}") from None
    return module


def region_views(text: str, *, loops: bool) -> tuple[str, str]:
    """Optimised LLVM text and assembly of a region that is worth time, for people to read."""
    machine = _machine(2)
    module = _optimised_region(text, machine, full=True, loops=loops)
    return str(module), machine.emit_assembly(module)


def _run_passes(module: llvm.ModuleRef, machine: llvm.TargetMachine, names: tuple[str, ...]) -> None:
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes = llvm.create_new_function_pass_manager()
    for name in names:
        getattr(passes, f"add_{name}_pass")()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)


def compile_views(text: str, level: int = 2) -> tuple[str, str]:
    """Optimised LLVM text and assembly of `text`, for people to read."""
    machine = _machine(level)
    module = _parse(text)
    _optimise(module, machine, level)
    return str(module), machine.emit_assembly(module)
