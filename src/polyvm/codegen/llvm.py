"""IR to LLVM, as text.

`Emitter` writes one function from a `Region`. It knows the pure operations, control and host memory; what touches a
guest (operands, registers, guest memory, where the guest goes next) is a method that the engine's stages override.

    module = ModuleText()
    emitter = Emitter(module, "name", [I64, I64], I64)
    emitter.region(region)
    module.text()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.codegen.llvm_flush import FlushEmitter
from polyvm.errors import EngineError
from polyvm.ir.types import I1, Type
from polyvm.ir.value import Value

if TYPE_CHECKING:
    from polyvm.codegen.llvm_module import ModuleText
    from polyvm.ir.value import Region

_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "udiv": "udiv", "sdiv": "sdiv", "urem": "urem", "srem": "srem",
           "and": "and", "or": "or", "xor": "xor", "shl": "shl", "lshr": "lshr", "ashr": "ashr"}  # fmt: skip
_COMPARE = {"eq", "ne", "ult", "ule", "slt", "sle"}
_CONVERT = {"zext", "sext", "trunc", "bitcast"}
_COUNT = {"clz": "ctlz", "ctz": "cttz"}
_INTRINSIC = {"popcount": "ctpop", "bswap": "bswap", "bitreverse": "bitreverse"}
_SATURATING = {"uadd_sat": "uadd.sat", "sadd_sat": "sadd.sat", "usub_sat": "usub.sat", "ssub_sat": "ssub.sat"}
_FLOATING = {"fadd", "fsub", "fmul", "fdiv", "fsqrt", "fma", "fmin", "fmax", "frint", "feq", "flt", "fle",
             "f2f", "f2si", "f2ui", "si2f", "ui2f"}  # fmt: skip
RMW = {"xchg", "add", "and", "or", "xor", "max", "min", "umax", "umin"}
ORDERS = {"none": "monotonic", "acq": "acquire", "rel": "release", "acqrel": "acq_rel", "seqcst": "seq_cst"}


class Emitter(FlushEmitter):
    """Writes one LLVM function.

    `convention` is the calling convention; a preserve_nonecc function returns nothing and ends in tail calls. `mark` is a number
    that stands in the 8 bytes before the function.
    """

    def __init__(
        self, module: ModuleText, name: str, params: list[Type], result: Type | None = None, convention: str = "",
        linkage: str = "",
    ) -> None:  # fmt: skip
        super().__init__(module)
        self.name = name
        self.params = params
        self.result = result
        self.convention = convention
        self.linkage = linkage
        self.mark: int | None = None
        self._loops: list[str] = []

    # -- function frame ---------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Add the function to the module."""
        if not self.terminated:
            self.line("ret void" if self.result is None else "unreachable")
        result = self.llvm_type(self.result) if self.result else "void"
        params = ", ".join(f"{self.llvm_type(t)} %p{i}" for i, t in enumerate(self.params))
        mark = "" if self.mark is None else f"prefix {{ i64, i64 }} {{ i64 0, i64 {self.mark} }} "
        head = f"define {self.linkage} {self.convention} {result} @{self.name}({params}) #0 {mark}{{\n"
        self.module.add(head + "\n".join(self.allocas + self.lines) + "\n}\n")

    def region(self, region: Region) -> None:
        """Write the operations of `region`."""
        for value in region.ops:
            if self.terminated:
                return
            self.operation(value)

    def operation(self, v: Value) -> None:
        """Write one operation."""
        op = v.op
        if op in _BINARY:
            self.define(v, f"{_BINARY[op]} {self.typed(v.args[0])}, {self.ref(v.args[1])}")
        elif op in _COMPARE:
            self.define(v, f"icmp {op} {self.typed(v.args[0])}, {self.ref(v.args[1])}")
        elif op in _CONVERT:
            self.define(v, f"{op} {self.typed(v.args[0])} to {self.llvm_type(v.type)}")
        elif v.attrs.get("rules"):
            self.with_rules(v)
        elif op in _FLOATING and v.args[0].type.lanes > 1:
            self.lane_by_lane(v)
        else:
            method = getattr(self, f"op_{op}", None)
            if method is None:
                raise EngineError(f"{type(self).__name__} cannot compile the operation {op}")
            method(v)

    # -- integers ---------------------------------------------------------------------------------------------

    def op_select(self, v: Value) -> None:
        c, a, b = v.args
        self.define(v, f"select {self.typed(c)}, {self.typed(a)}, {self.typed(b)}")

    def _saturating(self, v: Value) -> None:
        args = [(a.type, self.ref(a)) for a in v.args]
        self.set(v, self.intrinsic(f"{_SATURATING[v.op]}.{v.type}", v.type, args))

    op_uadd_sat = _saturating
    op_sadd_sat = _saturating
    op_usub_sat = _saturating
    op_ssub_sat = _saturating

    def _rotate(self, v: Value, intrinsic: str) -> None:
        a, n = self.ref(v.args[0]), self.ref(v.args[1])
        self.set(v, self.intrinsic(f"{intrinsic}.{v.type}", v.type, [(v.type, a), (v.type, a), (v.type, n)]))

    def op_rotl(self, v: Value) -> None:
        self._rotate(v, "fshl")

    def op_rotr(self, v: Value) -> None:
        self._rotate(v, "fshr")

    def _bit_count(self, v: Value) -> None:
        name = f"{_COUNT[v.op]}.{v.type}"
        self.set(v, self.intrinsic(name, v.type, [(v.type, self.ref(v.args[0])), (I1, "false")]))

    op_clz = _bit_count
    op_ctz = _bit_count

    def _unary_intrinsic(self, v: Value) -> None:
        self.set(v, self.intrinsic(f"{_INTRINSIC[v.op]}.{v.type}", v.type, [(v.type, self.ref(v.args[0]))]))

    op_popcount = _unary_intrinsic
    op_bswap = _unary_intrinsic
    op_bitreverse = _unary_intrinsic

    def op_clmul(self, v: Value) -> None:
        if v.type.lanes > 1:
            self.lane_by_lane(v)
            return
        self.set(v, self._narrowed(v.type, self._carryless(v, 0)))

    def op_clmulh(self, v: Value) -> None:
        if v.type.lanes > 1:
            self.lane_by_lane(v)
            return
        if v.type.bits == 64:
            self.set(v, self._carryless(v, 1))
            return
        shifted = self.temp(f"lshr i64 {self._carryless(v, 0)}, {v.type.bits}")
        self.set(v, self._narrowed(v.type, shifted))

    def _narrowed(self, type_: Type, value: str) -> str:
        return value if type_.bits == 64 else self.temp(f"trunc i64 {value} to {type_}")

    def _carryless(self, v: Value, half: int) -> str:
        """A half of the 128-bit carry-less product, by x86-64's PCLMULQDQ."""
        if v.type.bits > 64:
            raise EngineError(f"no carry-less product of {v.type} on this host")
        pair = "<2 x i64>"
        sides = [self.temp(f"insertelement {pair} zeroinitializer, i64 {self.i64(a)}, i32 0") for a in v.args]
        name = "llvm.x86.pclmulqdq"
        self.module.declare(name, f"declare {pair} @{name}({pair}, {pair}, i8 immarg)")
        product = self.temp(f"call {pair} @{name}({pair} {sides[0]}, {pair} {sides[1]}, i8 0)")
        return self.temp(f"extractelement {pair} {product}, i32 {half}")

    # -- vectors ----------------------------------------------------------------------------------------------

    def op_splat(self, v: Value) -> None:
        vector = self.llvm_type(v.type)
        one = self.temp(f"insertelement {vector} poison, {self.typed(v.args[0])}, i32 0")
        self.define(v, f"shufflevector {vector} {one}, {vector} poison, <{v.type.lanes} x i32> zeroinitializer")

    def op_lane(self, v: Value) -> None:
        self.define(v, f"extractelement {self.typed(v.args[0])}, i64 {self.i64(v.args[1])}")

    def op_with_lane(self, v: Value) -> None:
        self.define(v, f"insertelement {self.typed(v.args[0])}, {self.typed(v.args[1])}, i64 {self.i64(v.args[2])}")

    def op_shuffle(self, v: Value) -> None:
        lanes = ", ".join(f"i32 {i}" for i in v.attrs["lanes"])
        mask = f"<{len(v.attrs['lanes'])} x i32> <{lanes}>"
        self.define(v, f"shufflevector {self.typed(v.args[0])}, {self.typed(v.args[1])}, {mask}")

    def op_tbl(self, v: Value) -> None:
        # PSHUFB takes four bits of an index, and gives 0 where bit 7 is set.
        vector = v.type
        beyond = self.constant(vector, vector.splat(0x70))
        indices = self.intrinsic(f"uadd.sat.{vector}", vector, [(vector, self.ref(v.args[1])), (vector, beyond)])
        self.set(v, self.intrinsic("x86.ssse3.pshuf.b.128", vector, [(vector, self.ref(v.args[0])), (vector, indices)]))

    def _aes(self, name: str, value: str) -> str:
        """One of x86-64's AES instructions on a <2 x i64>, with a round key of 0 where it takes one."""
        pair = "<2 x i64>"
        keys = "" if name == "aesimc" else f", {pair}"
        self.module.declare(f"llvm.x86.aesni.{name}", f"declare {pair} @llvm.x86.aesni.{name}({pair}{keys})")
        return self.temp(f"call {pair} @llvm.x86.aesni.{name}({pair} {value}{keys and f'{keys} zeroinitializer'})")

    def _aes_step(self, v: Value) -> None:
        value = self.temp(f"bitcast {self.typed(v.args[0])} to <2 x i64>")
        if v.op == "aes_mix":
            # There is no instruction for this alone; one that undoes the rest comes first.
            value = self._aes("aesdeclast", value)
        name = {"aes_sub": "aesenclast", "aes_isub": "aesdeclast", "aes_mix": "aesenc", "aes_imix": "aesimc"}[v.op]
        self.define(v, f"bitcast <2 x i64> {self._aes(name, value)} to {self.llvm_type(v.type)}")

    op_aes_sub = _aes_step
    op_aes_isub = _aes_step
    op_aes_mix = _aes_step
    op_aes_imix = _aes_step

    def lane_by_lane(self, v: Value) -> None:
        """What the host has no vectors for; scalar arguments beside vectors serve all lanes."""
        vector = self.llvm_type(v.type)
        result = "poison"
        for i in range(v.type.lanes):
            args: list[Value] = []
            for arg in v.args:
                if arg.type.lanes == 1:
                    args.append(arg)
                    continue
                part = Value(arg.builder, "lane", arg.type.element, (), {})
                self.define(part, f"extractelement {self.typed(arg)}, i64 {i}")
                args.append(part)
            one = Value(v.builder, v.op, v.type.element, tuple(args), v.attrs)
            self.operation(one)
            result = self.temp(f"insertelement {vector} {result}, {self.typed(one)}, i64 {i}")
        self.set(v, result)

    # -- control ----------------------------------------------------------------------------------------------

    def op_if(self, v: Value) -> None:
        then, other = v.attrs["then"], v.attrs["else"]
        l_then, l_else, l_end = self.label(), self.label(), self.label()
        self.branch_to(self.ref(v.args[0]), l_then, l_else if other.ops else l_end)
        self.place(l_then)
        self.region(then)
        reached = not self.terminated or not other.ops
        self.jump_to(l_end)
        if other.ops:
            self.place(l_else)
            self.region(other)
            reached = reached or not self.terminated
            self.jump_to(l_end)
        if reached:
            self.place(l_end)
        else:
            self.terminated = True

    def op_loop(self, v: Value) -> None:
        head, end = self.label(), self.label()
        self.jump_to(head)
        self.place(head)
        self._loops.append(end)
        self.region(v.attrs["body"])
        self._loops.pop()
        self.jump_to(head)
        self.place(end)

    def op_break_if(self, v: Value) -> None:
        on = self.label()
        self.branch_to(self.ref(v.args[0]), self._loops[-1], on)
        self.place(on)

    def op_local(self, v: Value) -> None:
        slot = self.alloca(v.type)
        self.set(v, slot)
        self.line(f"store {self.typed(v.args[0])}, ptr {slot}")

    def op_local_get(self, v: Value) -> None:
        self.define(v, f"load {self.llvm_type(v.type)}, ptr {self.refs[id(v.args[0])]}")

    def op_local_set(self, v: Value) -> None:
        self.line(f"store {self.typed(v.args[1])}, ptr {self.refs[id(v.args[0])]}")

    # -- native functions -------------------------------------------------------------------------------------

    def op_hload(self, v: Value) -> None:
        pointer = self.host_pointer(v.args[0], v.attrs["offset"])
        self.define(v, f"load {self.llvm_type(v.type)}, ptr {pointer}, align 1")

    def op_hstore(self, v: Value) -> None:
        pointer = self.host_pointer(v.args[0], v.attrs["offset"])
        self.line(f"store {self.typed(v.args[1])}, ptr {pointer}, align 1")

    def op_hamo(self, v: Value) -> None:
        pointer = self.host_pointer(v.args[0], v.attrs["offset"])
        self.define(v, f"atomicrmw {v.attrs['rmw']} ptr {pointer}, {self.typed(v.args[1])} seq_cst")

    def op_call(self, v: Value) -> None:
        arguments = ", ".join(self.typed(a) for a in v.args)
        convention, callee = v.attrs.get("convention", ""), v.attrs["callee"]
        if v.attrs.get("void"):
            self.line(f"call {convention} void @{callee}({arguments})")
        else:
            self.define(v, f"call {convention} {self.llvm_type(v.type)} @{callee}({arguments})")

    def op_entry_sp(self, v: Value) -> None:
        self.module.declare("llvm.addressofreturnaddress.p0", "declare ptr @llvm.addressofreturnaddress.p0()")
        place = self.temp("call ptr @llvm.addressofreturnaddress.p0()")
        self.define(v, f"ptrtoint ptr {place} to i64")

    def op_save_bp(self, v: Value) -> None:
        """Note the register that a call preserves, for when its callees are left by a signal handler."""
        place = self.host_pointer(v.args[0], v.attrs["offset"])
        self.line(f'call void asm sideeffect "movq %rbp, $0", "=*m"(ptr elementtype(i64) {place})')

    def op_address_of(self, v: Value) -> None:
        self.define(v, f"ptrtoint ptr @{v.attrs['name']} to i64")

    def op_tailcall(self, v: Value) -> None:
        args, callee = list(v.args), v.attrs["callee"]
        target = f"@{callee}"
        if not callee:
            target = self.temp(f"inttoptr i64 {self.ref(args.pop(0))} to ptr")
        arguments = ", ".join(self.typed(a) for a in args)
        self.line(f"musttail call {self.convention} void {target}({arguments})")
        self.line("ret void")
        self.terminated = True

    def op_ret(self, v: Value) -> None:
        self.line(f"ret {self.typed(v.args[0])}" if v.args else "ret void")
        self.terminated = True

    def host_pointer(self, address: Value, offset: int) -> str:
        """A pointer to host memory at `address` + `offset`."""
        base = self.temp(f"inttoptr i64 {self.ref(address)} to ptr")
        return self.temp(f"getelementptr i8, ptr {base}, i64 {offset}") if offset else base

    def op_fence(self, v: Value) -> None:
        self.line(f"fence {ORDERS[v.attrs['order']]}")
