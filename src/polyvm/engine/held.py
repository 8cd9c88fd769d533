"""Guest registers in regions: in the CPU record in quickly made code, in LLVM values in well made code.

Floating-point registers are held as doubles and vectors, so that they stay in the host's. A vector register of which a region
uses the low half only, as scalar floating point does, is held as that half and an upper one that is mostly zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.engine.entrance import REGION
from polyvm.engine.floating import FloatEmitter
from polyvm.engine.handlers import CPU
from polyvm.engine.induction import register_key
from polyvm.engine.region import FULL
from polyvm.errors import EngineError
from polyvm.ir.types import F32, F64, I64, I128

if TYPE_CHECKING:
    from polyvm.codegen.llvm_module import ModuleText
    from polyvm.engine.blocks import Step
    from polyvm.engine.layout import CpuRecord
    from polyvm.engine.region import RegionSpec
    from polyvm.ir.types import Type
    from polyvm.ir.value import Value
    from polyvm.isa import Isa

PAIR = I64.vector(2)  # what registers of 128 bits are held as


class HeldEmitter(FloatEmitter):
    """The registers' side of a region's emitter."""

    def __init__(self, module: ModuleText, record: CpuRecord, isa: Isa, spec: RegionSpec) -> None:
        super().__init__(module, REGION, record, None, terminates=True)
        self.isa = isa
        self.spec = spec
        # Quickly made code keeps guest registers in the CPU record and knows them within a block; well made code keeps
        # those that are worth it in LLVM values throughout, and writes back what it has changed where it leaves.
        self._held = spec.level == FULL
        self._places: dict[tuple[str, int], str] = {}
        # Vector registers of which the region reads no more than the low half, and writes no more but zeros: held as that half, a
        # double, and a register of its own for the upper one, in a file whose name ends in +.
        self._halves: set[tuple[str, int]] = set()
        self._known: dict[tuple[str, int], str] = {}
        self._dirty: set[tuple[str, int]] = set()  # registers that may have been written since the region was entered
        # In a block, values that are held as other types, which spares conversions.
        self._doubles: dict[int, str] = {}  # also of narrower values that are zero-extended there
        self._pairs: dict[int, str] = {}
        self._lows: dict[int, str] = {}  # doubles with something else above
        self._depth = 0

    def _register_key(self, value: Value) -> tuple[str, int]:
        key = register_key(value)
        if key is None:
            raise EngineError("a region cannot index registers by a value")
        return key

    def _held_type(self, key: tuple[str, int]) -> Type:
        """Floating-point registers are held as doubles and vectors, so that they stay in the host's."""
        if key[0] in self.isa.floating_files or key in self._halves:
            return F64
        if key[0] in self.isa.vector_files:
            return PAIR
        return I64 if key[0].endswith("+") else self.record.layout[key[0]].type

    @staticmethod
    def _is_narrow(step: Step, v: Value) -> bool:
        """True if a get or set concerns the low 64 bits only; what is above is set to zero."""
        if v.op == "set":
            value = v.args[-1]
            return (value.op == "zext" and value.args[0].type.bits <= 64) or (value.op == "const" and value.bits < 1 << 64)
        return all(user.op == "trunc" and user.type.bits <= 64 for user in step.flat if any(a is v for a in user.args))

    def _home(self, key: tuple[str, int]) -> str:
        return self.pointer(CPU, self._offset(key))

    def _offset(self, key: tuple[str, int]) -> int:
        """Where the CPU record has a register."""
        file = key[0].removesuffix("+")
        place = self.record.layout[file]
        return place.offset + place.stride * key[1] + (8 if file != key[0] else 0)

    def op_get(self, v: Value) -> None:
        key = self._register_key(v)
        name, held = self.register_name(v, key), self._held_type(key)
        if not self._held or held is v.type:
            self.set(v, name)
        elif key in self._halves:
            self._doubles[id(v)] = name
            self.set(v, "poison")  # of which only the lower half is asked for
        else:
            (self._pairs if held is PAIR else self._doubles)[id(v)] = name
            self.define(v, f"bitcast {self.llvm_type(held)} {name} to {self.llvm_type(v.type)}")

    def _low_part(self, v: Value) -> bool:
        """Take the low bits of a vector register without a way through the host's general registers; False: not that."""
        source = v.args[0]
        pair = self._pairs.get(id(source))
        if source.type is not I128 or v.type.bits > 64 or (pair is None and id(source) not in self._doubles):
            return False
        if pair is not None:
            pair = self.temp(f"bitcast <2 x i64> {pair} to <2 x double>")
            double = self.temp(f"extractelement <2 x double> {pair}, i64 0")
        else:
            double = self._doubles[id(source)]
        if v.type is I64:
            self._doubles[id(v)] = double
            self.define(v, f"bitcast double {double} to i64")
        else:
            lanes = 64 // v.type.bits
            parts = self.temp(f"bitcast double {double} to <{lanes} x {v.type}>")
            self.define(v, f"extractelement <{lanes} x {v.type}> {parts}, i64 0")
            self._lows[id(v)] = double
        return True

    def _as_held(self, value: Value, held: Type) -> str:
        """`value` as the type that its register is held as."""
        known = (self._pairs if held is PAIR else self._doubles).get(id(value))
        if known is not None:
            return known
        if value.op == "bitcast":
            value = value.args[0]
        if value.type is held:
            return self.ref(value)
        if value.op == "const" and value.type is I128 and held is F64:
            return self.constant(F64, value.bits)
        if value.op == "zext" and value.type is I128:
            return self._zero_extended(value.args[0], held)
        return self.temp(f"bitcast {self.typed(value)} to {self.llvm_type(held)}")

    def _zero_extended(self, x: Value, held: Type) -> str:
        """An integer as the low bits of a vector register, with zeros above."""
        low = self._doubles.get(id(x))
        if low is None and x.op == "bitcast" and x.args[0].type is F32:
            lanes = held.total_bits // 32
            low = self.temp(f"insertelement <{lanes} x float> zeroinitializer, {self.typed(x.args[0])}, i64 0")
            return self.temp(f"bitcast <{lanes} x float> {low} to {self.llvm_type(held)}")
        if low is None:
            inner = x.args[0] if x.op == "bitcast" and x.type is I64 else x
            wide = self.typed(inner) if inner.type.total_bits == 64 else f"i64 {self.i64(x)}"
            low = self.ref(inner) if inner.type is F64 else self.temp(f"bitcast {wide} to double")
        if held is F64:
            return low
        pair = self.temp(f"insertelement <2 x double> zeroinitializer, double {low}, i64 0")
        return self.temp(f"bitcast <2 x double> {pair} to <2 x i64>")

    def value_of(self, key: tuple[str, int]) -> str:
        """A guest register as it is here: held registers as `_held_type` says."""
        name = self._known.get(key)
        if name is None:
            if key in self._places:
                name = self.temp(f"load {self.llvm_type(self._held_type(key))}, ptr {self._places[key]}")
            else:
                type_ = self.llvm_type(self.record.layout[key[0]].type)
                name = self.temp(f"load {type_}, ptr {self._home(key)}, align 8, !alias.scope !5, !noalias !6")
            if not self._nested:
                self._known[key] = name
        return name

    def replace(self, key: tuple[str, int], name: str) -> None:
        self.line(f"store {self.llvm_type(self._held_type(key))} {name}, ptr {self._places[key]}")
        self._known[key] = name

    def op_set(self, v: Value) -> None:
        key = self._register_key(v)
        value = v.args[-1]
        if key not in self._places:
            self.line(f"store {self.typed(value)}, ptr {self._home(key)}, align 8, !alias.scope !5, !noalias !6")
            self._knows(key, self.ref(value))
            return
        held = self._held_type(key)
        name = self.ref(value) if held is value.type else self._as_held(value, held)
        self._hold(key, name)
        self.wrote(key, value)
        if key in self._halves:
            self._hold((f"{key[0]}+", key[1]), "0")

    def _hold(self, key: tuple[str, int], name: str) -> None:
        self._dirty.add(key)
        self.line(f"store {self.llvm_type(self._held_type(key))} {name}, ptr {self._places[key]}")
        self._knows(key, name)

    def _knows(self, key: tuple[str, int], name: str) -> None:
        if self._nested:
            self._known.pop(key, None)
        else:
            self._known[key] = name

    def held_integer(self, key: tuple[str, int]) -> str:
        """A guest register as it is here, 64 bits."""
        name = self.value_of(key)
        return self.temp(f"bitcast double {name} to i64") if self._held and self._held_type(key) is F64 else name

    @property
    def _nested(self) -> bool:
        """True inside an `if` or loop of a body: what happens there may not happen."""
        return self._depth > 0

    def op_if(self, v: Value) -> None:
        self._depth += 1
        super().op_if(v)
        self._depth -= 1

    def op_loop(self, v: Value) -> None:
        self._depth += 1
        super().op_loop(v)
        self._depth -= 1
