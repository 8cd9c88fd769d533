"""The interpreter of one instruction set, as one object file: handlers, decoder, runtime, tables.

`build(isa)` stages every instruction body; `load(name)` gives the native functions, from the disk cache where it can: then
neither LLVM nor the instruction bodies are imported.
"""

from __future__ import annotations

import ctypes
import os

import polyvm
from polyvm.codegen import cache
from polyvm.codegen.objects import LoadedObject, link
from polyvm.engine.copies import Stencils
from polyvm.engine.layout import CpuRecord
from polyvm.errors import EngineError, UnsupportedError
from polyvm.isa import NAMES as ISA_NAMES
from polyvm.isa import get as get_isa

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvm.codegen.llvm_module import ModuleText
    from polyvm.engine.decoder import Form
    from polyvm.engine.fusion import Node
    from polyvm.engine.handlers import HandlerEmitter
    from polyvm.ir import Builder, Region, Value
    from polyvm.isa import Insn, Isa

# Floating-point operations that take a fixed rounding mode as cheaply as the environment's.
_FIXED_MODE_OPS = frozenset({"f2si", "f2ui", "frint"})
_ROUNDED_OPS = frozenset({"fadd", "fsub", "fmul", "fdiv", "fsqrt", "fma", "f2f", "si2f", "ui2f"})
_OPTIMISATION = 2
_MOST_SHARES = 8  # of the interpreter, that are compiled side by side


class NativeInterpreter:
    """The native functions of a loaded interpreter."""

    __slots__ = (
        "_asked", "_folder", "_stencils", "flush", "identity", "install", "isa_name", "known", "object", "record", "run", "scan",
        "stamp",
    )  # fmt: skip

    def __init__(self, isa_name: str, loaded: LoadedObject, record: CpuRecord, identity: str) -> None:
        self.isa_name = isa_name
        self.identity = identity
        self._stencils: Stencils | None = None
        self._asked = False
        self._folder = cache.directory()
        self.object = loaded
        self.record = record
        prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
        self.run: Callable[[int], int] = prototype(loaded.address("run"))
        self.flush: Callable[[int], int] = prototype(loaded.address("flush"))
        self.stamp: Callable[[int], int] = prototype(loaded.address("stamp"))
        quad = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
        self.scan: Callable[[int, int, int, int], int] = quad(loaded.address("scan"))
        binary = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_uint64)
        self.known: Callable[[int, int], int] = binary(loaded.address("known"))
        self.install: Callable[[int, int], int] = binary(loaded.address("install"))

    def stencils(self, *, wait: bool) -> Stencils | None:
        """The same handlers as stencils. They lie beside the interpreter, wherever the environment says that the cache is now.
        Where they do not yet, they are made; without `wait` by another process, and until then there are none."""
        if self._stencils is None:
            entry = cache.key("stencils", self.identity)
            data = cache.load(entry, self._folder)
            if data is None and wait:
                from polyvm.engine.stencils import make

                data = make(self.isa_name, entry, self._folder)
            if data is not None:
                self._stencils = Stencils(data, self)
            elif not self._asked:
                self._asked = True
                self._have_made(entry)
        return self._stencils

    def _have_made(self, entry: str) -> None:
        from polyvm.engine.spawn import start_python

        code = f"from polyvm.engine.stencils import main; main({self.isa_name!r}, {entry!r}, {self._folder!r})"
        try:
            with open(os.devnull, "rb") as nothing:
                start_python(code, nothing.fileno())
        except (OSError, EngineError):
            pass  # it goes without


def _stamp(name: str, root: str = os.path.dirname(polyvm.__file__)) -> str:
    """Changes whenever a source file that shapes code generated for guest architecture `name` does."""
    others = {f"{root}/isa/{other}" for other in ISA_NAMES if other != name}
    folders = [f"{root}/{package}" for package in ("ir", "isa", "codegen", "engine", "vcpu", "mem")]
    parts: list[str] = []
    for folder in folders:  # which grows
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    parts.append(f"{entry.name}:{status.st_size}:{status.st_mtime_ns}")
                elif entry.is_dir() and entry.name != "__pycache__" and entry.path not in others:
                    folders.append(entry.path)
    return ",".join(sorted(parts))


def _host_features() -> str:
    """What the kernel says of the host CPU: cheaper than asking LLVM, and as telling."""
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            seen = [line for line in file.read(8192).splitlines() if line.startswith((b"model name", b"flags"))]
        return b"\n".join(seen[:2]).decode("ascii", "replace")
    except OSError:
        return ""


def _require_host() -> str:
    """What `_host_features` says; raises UnsupportedError where the engine cannot run."""
    machine = os.uname().machine
    if machine != "x86_64":
        raise UnsupportedError(f"the software engine runs on x86-64 hosts only, not on {machine}")
    said = _host_features()
    features = said.split()
    missing = [name for name in ("fma", "f16c", "sse4_1", "cx16", "pclmulqdq", "aes") if features and name not in features]
    if missing:
        raise UnsupportedError(f"this CPU lacks {', '.join(missing)}; the software engine needs x86-64-v3")
    return said


_loaded: dict[str, NativeInterpreter] = {}


def load(name: str) -> NativeInterpreter:
    """The interpreter for guest architecture `name`, from the cache or compiled now."""
    if name not in _loaded:
        _loaded[name] = _load(name)
    return _loaded[name]


def _load(name: str) -> NativeInterpreter:
    host = _require_host()
    isa = get_isa(name)
    entry = cache.key("interpreter", name, polyvm.__version__, _stamp(name), host, str(_OPTIMISATION))
    data = cache.load(entry)
    if data is None:
        with cache.making(entry):
            # Another process may have made it meanwhile.
            data = cache.load(entry) or _compile(isa)
            cache.store(entry, data)
    return NativeInterpreter(name, LoadedObject(data), CpuRecord(isa.layout), entry)


def _compile(isa: Isa) -> bytes:
    """The interpreter's image, made on all processors that this process may use."""
    from polyvm.codegen.native import compile_objects

    module = build(isa)
    count = min(len(os.sched_getaffinity(0)), _MOST_SHARES)
    return link(compile_objects(module.split(count) if count > 1 else [module.text()], _OPTIMISATION))


def build(isa: Isa) -> ModuleText:
    """The whole interpreter as LLVM text."""
    from polyvm.codegen.llvm_module import ModuleText
    from polyvm.engine.decoder import DecoderBuilder
    from polyvm.engine.fusion import Fusion
    from polyvm.engine.handlers import MARK_FIRST, HandlerEmitter
    from polyvm.engine.runtime import Runtime

    module = ModuleText()
    module.rare_linkage = "linkonce_odr hidden"  # stencils call them, too
    record = CpuRecord(isa.layout)
    runtime = Runtime(module, record)
    runtime.build()
    handlers = _Handlers(module, record, isa)
    forms: dict[str, list[Form]] = {}
    for insn in isa.instructions:
        forms[insn.name] = handlers.add(insn)
    fusion = Fusion(isa, {form.insn.name: form for form in handlers.all if not form.fixed})

    def fused(node: Node) -> HandlerEmitter:
        first = node.chain[0].form
        emitter = HandlerEmitter(module, node.name, record, f"h_{first.name}_slow", terminates=first.terminates)
        emitter.mark = MARK_FIRST + len(handlers.all) - 1 + node.index
        return emitter

    fusion.emit(fused, lambda insn, before: stage(isa, insn, {}, fast=True, before=before))
    _illegal_handler(module, record)
    DecoderBuilder(runtime, isa, forms, len(handlers.all)).build()
    module.table("form_handlers", "ptr", [f"@h_{form.name}" for form in handlers.all] + ["@h_illegal"])
    module.table("form_terminates", "i8", [int(form.terminates) for form in handlers.all] + [1])
    fusion.tables(module, len(handlers.all))
    return module


def _illegal_handler(module: ModuleText, record: CpuRecord) -> None:
    from polyvm.engine.handlers import MARK_NONE, HandlerEmitter
    from polyvm.ir import Builder
    from polyvm.vcpu import exits

    b = Builder(record.layout)
    b.exit(exits.ILLEGAL)
    emitter = HandlerEmitter(module, "h_illegal", record, None, terminates=True)
    emitter.mark = MARK_NONE
    emitter.region(b.body)
    emitter.finish()


def symbol(name: str) -> str:
    """An instruction's name as part of an LLVM name."""
    return name.replace(".", "_").replace(" ", "_")


class FormLister:
    """The forms of instructions, in the order of their numbers."""

    def __init__(self, isa: Isa) -> None:
        self.isa = isa
        self.all: list[Form] = []

    def add(self, insn: Insn) -> list[Form]:
        """The forms of `insn`, most special first."""
        from polyvm.engine.decoder import Form

        forms: list[Form] = []
        staged = stage(self.isa, insn, {}, fast=True)
        if any(o.name == "rm" for o in insn.operands) and staged.ops & _FIXED_MODE_OPS and not staged.ops & _ROUNDED_OPS:
            # Conversions to integers nearly always bring "towards zero" with them.
            forms.append(Form(f"{symbol(insn.name)}_rtz", len(self.all), insn, staged.terminates, {"rm": 1}))
            self.all.append(forms[-1])
        forms.append(Form(symbol(insn.name), len(self.all), insn, staged.terminates, {}))
        self.all.append(forms[-1])
        return forms


class _Handlers(FormLister):
    """Stages instruction bodies as handlers."""

    def __init__(self, module: ModuleText, record: CpuRecord, isa: Isa) -> None:
        super().__init__(isa)
        self.module = module
        self.record = record

    def add(self, insn: Insn) -> list[Form]:
        forms = super().add(insn)
        for form in forms:
            name = f"h_{form.name}"
            if self._emit(form, name, f"{name}_slow").bailed:
                self._emit(form, f"{name}_slow", None)
        return forms

    def _emit(self, form: Form, name: str, slow: str | None) -> HandlerEmitter:
        from polyvm.engine.handlers import MARK_FIRST, HandlerEmitter, operand_places

        staged = stage(self.isa, form.insn, form.fixed, fast=slow is not None)
        emitter = HandlerEmitter(self.module, name, self.record, slow, terminates=form.terminates)
        emitter.mark = MARK_FIRST + form.index
        emitter.load_operands(staged.operands, operand_places(form.insn))
        emitter.region(staged.region)
        emitter.finish()
        return emitter


class Staged:
    """A body over unknown operands: what built it, its IR, the operations in it, whether it ends a block, its operand nodes."""

    __slots__ = ("builder", "operands", "ops", "region", "terminates")

    def __init__(self, builder: Builder, ops: set[str], terminates: bool, operands: list[Value]) -> None:
        self.builder = builder
        self.region = builder.body
        self.ops = ops
        self.terminates = terminates
        self.operands = operands


def stage(isa: Isa, insn: Insn, fixed: dict[str, int], *, fast: bool, before: Builder | None = None) -> Staged:
    """The body of `insn` as IR over unknown operands, except those in `fixed`; in a fused handler after that of `before`."""
    b = isa.builder()
    b.fast = fast
    if before is not None:
        b.follow(before)
    operands: dict[str, Value] = {}
    unknown: list[Value] = []
    for operand in insn.operands:
        if operand.name in fixed:
            operands[operand.name] = b.const(operand.type, fixed[operand.name])
        else:
            node = b.emit("operand", operand.type, name=operand.name)
            operands[operand.name] = node
            unknown.append(node)
    insn.body(b, **operands)
    ops: set[str] = set()
    _collect(b.body, ops)
    last = b.body.ops[-1].op if b.body.ops else ""
    terminates = bool(ops & {"jump", "branch", "indirect"}) or last == "exit"
    return Staged(b, ops, terminates, unknown)


def _collect(region: Region, ops: set[str]) -> None:
    for value in region.ops:
        ops.add(value.op)
        if value.op == "if":
            _collect(value.attrs["then"], ops)
            _collect(value.attrs["else"], ops)
        elif value.op == "loop":
            _collect(value.attrs["body"], ops)
