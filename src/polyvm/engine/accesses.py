"""Guest memory in regions: accesses that the attribute table allows, and ones that the host checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from polyvm.codegen.objects import FAULTS
from polyvm.engine.handlers import FAST
from polyvm.engine.held import HeldEmitter
from polyvm.engine.induction import MOST_SPAN
from polyvm.ir.types import F64, I64, I128
from polyvm.mem import GUARD, PAGE_BITS, SIZE_BITS

if TYPE_CHECKING:
    from polyvm.codegen.llvm_module import ModuleText
    from polyvm.engine.induction import Span, Terms
    from polyvm.engine.layout import CpuRecord
    from polyvm.engine.region import RegionSpec
    from polyvm.ir.types import Type
    from polyvm.ir.value import Value
    from polyvm.isa import Isa

# The attribute table and the CPU record overlap with no guest memory: alias scopes !3 and !5; each other's: !4 and !6.
_SCOPES = (
    ("!1", '!1 = !{!1, !"polyvm"}'), ("!2", '!2 = !{!2, !1, !"attributes"}'), ("!3", "!3 = !{!2}"),
    ("!4", '!4 = !{!4, !1, !"record"}'), ("!5", "!5 = !{!4}"), ("!6", "!6 = !{!2}"), ("!7", "!7 = !{!2, !4}"),
)  # fmt: skip
_ACCESS = {FAST["r"]: "r", FAST["w"]: "w", FAST["rw"]: "rw"}
# By bits, the host's instructions for accesses.
_MOVES = {
    8: {"zext": "movzbl $1, ${0:k}", "sext": "movsbq $1, $0", "store": "movb"},
    16: {"zext": "movzwl $1, ${0:k}", "sext": "movswq $1, $0", "store": "movw"},
    32: {"zext": "movl $1, ${0:k}", "sext": "movslq $1, $0", "store": "movl"},
    64: {"store": "movq"},
}


class Sum(NamedTuple):
    """The value `base` plus the constant `low` plus the small values `rest`, which together are at most `high` - `low`."""

    base: str
    low: int
    high: int
    rest: tuple[str, ...]


class AccessEmitter(HeldEmitter):
    """The memory's side of a region's emitter."""

    def __init__(self, module: ModuleText, record: CpuRecord, isa: Isa, spec: RegionSpec) -> None:
        super().__init__(module, record, isa, spec)
        self._covered: set[int] = set()  # accesses without a check
        # In a block: values that are known to be addresses in the arena, or near it; values that are others plus constants;
        # loaded values that are extended already.
        self._inside: set[str] = set()
        self._sums: dict[str, Sum] = {}
        self._small: dict[str, int] = {}  # values that are no larger than that
        # What the block has stored relative to one value, and has not stored to since: integers by their distance in bytes.
        self._stored_at = ""
        self._stored_there: dict[int, tuple[int, str]] = {}  # bits and name
        self._extended: dict[int, tuple[str, str]] = {}

    def check(self, address: str, size: int, access: str) -> None:
        """As in a handler, but what the attribute table says can be remembered between stores to guest memory."""
        shift = size.bit_length() - 1
        rotated = address
        if shift:
            rotated = self.intrinsic("fshr.i64", I64, [(I64, address), (I64, address), (I64, str(shift))])
        good, inside = self.label(), self.label()
        outside = self.temp(f"icmp uge i64 {rotated}, {1 << (SIZE_BITS - shift)}")
        self.branch_to(outside, self.bail(), inside, unlikely=True)
        self.place(inside)
        page = self.temp(f"lshr i64 {rotated}, {PAGE_BITS - shift}")
        place = self.temp(f"getelementptr i8, ptr %attributes, i64 {page}")
        self._scopes()
        flags = self.temp(f"load i8, ptr {place}, !alias.scope !3")
        wanted = FAST[access]
        mask = wanted - 256 if wanted > 127 else wanted
        have = self.temp(f"and i8 {flags}, {mask}")
        self.branch_to(self.temp(f"icmp ne i8 {have}, {mask}"), self.bail(), good, unlikely=True)
        self.place(good)

    def _check_span(self, span: Span) -> None:
        """One check, before a block, for all accesses of a span: they lie in one page or two."""
        base = self.sum_of(span.terms)
        size = span.high - span.low
        if len(span.members) == 1 and size in (1, 2, 4, 8):
            self.check(self.temp(f"add i64 {base}, {span.low}"), size, _ACCESS[span.wanted])
            return
        low = self.temp(f"add i64 {base}, {span.low}")
        high = self.temp(f"add i64 {base}, {span.high - 1}")
        good, inside = self.label(), self.label()
        outside = self.temp(f"icmp uge i64 {low}, {(1 << SIZE_BITS) - MOST_SPAN}")
        self.branch_to(outside, self.bail(), inside, unlikely=True)
        self.place(inside)
        flags = [self.attributes_at(self.temp(f"lshr i64 {end}, {PAGE_BITS}"), "i8") for end in (low, high)]
        both = self.temp(f"and i8 {flags[0]}, {flags[1]}")
        mask = span.wanted - 256 if span.wanted > 127 else span.wanted
        have = self.temp(f"and i8 {both}, {mask}")
        self.branch_to(self.temp(f"icmp ne i8 {have}, {mask}"), self.bail(), good, unlikely=True)
        self.place(good)

    def sum_of(self, terms: Terms) -> str:
        """The sum of terms, where a block is entered."""
        total = "0"
        for atom, factor in terms:
            if atom.kind == "r":
                value = self.held_integer(atom.parts[0][0])
            else:
                value = self.temp(f"{'sext' if atom.kind == 's' else 'zext'} i32 {self.half_sum_of(atom.parts)} to i64")
            if factor != 1:
                value = self.temp(f"mul i64 {value}, {factor}")
            total = value if total == "0" else self.temp(f"add i64 {total}, {value}")
        return total

    def half_sum_of(self, parts: tuple[tuple[tuple[str, int], int], ...]) -> str:
        """The 32-bit sum of registers."""
        total = "0"
        for key, factor in parts:
            part = self.temp(f"mul i32 {self.temp(f'trunc i64 {self.held_integer(key)} to i32')}, {factor}")
            total = self.temp(f"add i32 {total}, {part}")
        return total

    def operation(self, v: Value) -> None:
        """Also notes what is a sum with a constant, and extends what was loaded without another instruction."""
        known = self._extended.get(id(v.args[0])) if v.op in ("zext", "sext") and v.type is I64 else None
        if known is not None and known[0] == v.op:
            self.set(v, known[1])
            self._follow_bounds(v)
            return
        if v.op == "trunc" and self._low_part(v):
            return
        super().operation(v)
        if not v.type.is_float and v.type.lanes == 1 and v.type.bits <= 64:
            self._follow_bounds(v)

    def _follow_bounds(self, v: Value) -> None:
        """Note that an integer is small, or the sum of another and something small: so a table's elements need no check
        beside its own."""
        if v.op == "add" and v.type is I64:
            first, second = v.args
            most = self._most(second)
            if second.op == "const" or most is None:
                first, second, most = (first, second, None) if second.op == "const" else (second, first, self._most(first))
            if second.op == "const" and first.op != "const":
                low = high = I64.signed(second.bits)
                rest: tuple[str, ...] = ()
            elif most is not None:
                low, high, rest = 0, most, (self.ref(second),)
            else:
                return
            found = self._origin(self.ref(first))
            self._sums[self.ref(v)] = Sum(found.base, found.low + low, found.high + high, found.rest + rest)
            return
        most = self._most_of(v)
        if most is not None and most < GUARD:
            self._small[self.ref(v)] = most

    def _most(self, v: Value) -> int | None:
        """What an integer is not larger than, if it is known to be small."""
        return v.bits if v.op == "const" and v.bits < GUARD else self._small.get(self.ref(v)) if v.op != "const" else None

    def _most_of(self, v: Value) -> int | None:
        """The same of the result of an operation."""
        if v.op in ("zext", "sext", "trunc"):
            inner = self._most(v.args[0])
            if v.op == "sext" and inner is not None and inner >> v.args[0].type.bits - 1:
                return None
            return (1 << v.args[0].type.bits) - 1 if inner is None and v.op == "zext" else inner
        if v.op == "and":
            known = [most for most in map(self._most, v.args) if most is not None]
            return min(known, default=None)
        if v.op in ("shl", "lshr") and v.args[1].op == "const" and v.args[1].bits < 64:
            inner = self._most(v.args[0])
            if inner is not None:
                return inner << v.args[1].bits if v.op == "shl" else inner >> v.args[1].bits
        if v.op == "lshr" and v.args[1].op == "const":
            return (1 << v.type.bits) - 1 >> v.args[1].bits
        return None

    def _origin(self, address: str) -> Sum:
        """What `address` is the sum of."""
        return self._sums.get(address) or Sum(address, 0, 0, ())

    def attributes_at(self, page: str, type_: str, distance: int = 0) -> str:
        """Bytes of the attribute table, from that of `page` plus `distance` on."""
        place = self.temp(f"getelementptr i8, ptr %attributes, i64 {page}")
        if distance:
            place = self.temp(f"getelementptr i8, ptr {place}, i64 {distance}")
        self._scopes()
        return self.temp(f"load {type_}, ptr {place}, align 1, !alias.scope !3")

    def _scopes(self) -> None:
        for name, text in _SCOPES:
            self.module.declare(name, text)

    def _guest_pointer(self, v: Value, type_: Type, access: str) -> str:
        address = self.ref(v.args[0])
        if id(v) not in self._covered:
            self.check(address, type_.total_bits // 8, access)
        return self.temp(f"getelementptr i8, ptr %memory, i64 {address}")

    # -- what was stored a moment ago ---------------------------------------------------------------------------

    def _note_store(self, v: Value) -> None:
        """Compilers for processors without misaligned accesses copy a word byte by byte and load it then: the host would have
        to wait until all of the bytes are in its cache."""
        base, low, high, _ = self._origin(self.ref(v.args[0]))
        value = v.args[1]
        if low != high or base != self._stored_at or self._nested:
            self._stored_there.clear()
        if low != high or self._nested or value.type.is_float or value.type.lanes != 1 or value.type.bits > 64:
            self._stored_there.clear()
            return
        self._stored_at = base
        size = value.type.bits // 8
        for at in [at for at, (bits, _) in self._stored_there.items() if at < low + size and low < at + bits // 8]:
            del self._stored_there[at]
        name = self.constant(value.type, value.bits) if value.op == "const" else self.ref(value)
        self._stored_there[low] = value.type.bits, name

    def _forwarded(self, v: Value) -> bool:
        """Put a load's value together from narrower ones that were stored there; False: not known."""
        base, at, high, _ = self._origin(self.ref(v.args[0]))
        type_ = v.type
        if base != self._stored_at or at != high or type_.is_float or type_.lanes != 1 or type_.bits > 64:
            return False
        parts: list[tuple[int, int, str]] = []
        done = 0
        while done < type_.bits:
            bits, name = self._stored_there.get(at + done // 8, (0, ""))
            if not bits or done + bits > type_.bits:
                return False
            parts.append((done, bits, name))
            done += bits
        if len(parts) < 2:
            return False  # the host is quick to find it
        whole = ""
        for shift, bits, name in parts:
            part = self.temp(f"zext i{bits} {name} to {type_}")
            part = self.temp(f"shl {type_} {part}, {shift}") if shift else part
            whole = self.temp(f"or {type_} {whole}, {part}") if whole else part
        self.set(v, whole)
        return True

    def op_amo(self, v: Value) -> None:
        self._stored_there.clear()
        super().op_amo(v)

    def op_cmpxchg(self, v: Value) -> None:
        self._stored_there.clear()
        super().op_cmpxchg(v)

    def op_fence(self, v: Value) -> None:
        self._stored_there.clear()
        super().op_fence(v)

    # -- loads and stores ---------------------------------------------------------------------------------------

    def op_load(self, v: Value) -> None:
        if v.attrs["order"] != "none":
            self._stored_there.clear()
            super().op_load(v)
            return
        if self.spec.guarded and self._stored_there and self._forwarded(v):
            return
        if self.spec.guarded and id(v) not in self._covered and v.type.total_bits >= 8:
            self._refusable_load(v)
            return
        pointer = self._guest_pointer(v, v.type, "r")
        self.define(v, f"load {self.llvm_type(v.type)}, ptr {pointer}, align 1, !noalias !7")

    def op_store(self, v: Value) -> None:
        if v.attrs["order"] != "none":
            self._stored_there.clear()
            super().op_store(v)
            return
        self._note_store(v)
        type_ = v.args[1].type
        if self.spec.guarded and id(v) not in self._covered and type_.total_bits >= 8:
            self._refusable_store(v)
            return
        pointer = self._guest_pointer(v, type_, "w")
        self.line(f"store {self.typed(v.args[1])}, ptr {pointer}, align 1, !noalias !7")

    # -- accesses that the host checks --------------------------------------------------------------------------

    def _near_pointer(self, address: str) -> str:
        """A pointer for the guest's `address`, which is in the arena or just outside."""
        base, low, high, rest = self._origin(address)
        if not -GUARD < low <= high < GUARD // 2:
            base, rest = address, ()
        if base not in self._inside:
            good = self.label()
            self.branch_to(self.temp(f"icmp ult i64 {base}, %reach"), good, self.bail(), unlikely=False)
            self.place(good)
            if not self._nested:
                self._inside.add(base)
        if not rest:
            return self.temp(f"getelementptr i8, ptr %memory, i64 {address}")
        # In this order, for the base is often the same throughout a loop.
        pointer = self.temp(f"getelementptr i8, ptr %memory, i64 {base}")
        for part in (*rest, str(low)):
            pointer = self.temp(f"getelementptr i8, ptr {pointer}, i64 {part}")
        return pointer

    def _refusable(self, move: str, pointer: str, memory: str, result: str = "", value: str = "") -> str:
        """An access; where the host refuses it, the interpreter does the instruction. The result's name."""
        good = self.label()
        kind = "x" if (result or value).startswith(("double", "<2 x i64>")) else "r"
        constraints = f"={kind},*m" if result else f"=*m,{kind}" if value else "=*m"
        away = f"${{{constraints.count(',') + 1}:l}}-."
        text = f"1: {move}\\0A.pushsection {FAULTS},\\22a\\22\\0A.long 1b-.\\0A.long {away}\\0A.popsection"
        constraints += ",!i"
        arguments = f"ptr elementtype({memory}) {pointer}" + (f", {value}" if value else "")
        asm = f'{result or "void"} asm sideeffect "{text}", "{constraints}"({arguments})'
        call = f"callbr {asm} to label %{good} [label %{self.bail()}], !noalias !7"
        name = ""
        if result:
            name = self.temp(call)
        else:
            self.line(call)
        self.terminated = True
        self.place(good)
        # LLVM cuts integers of which less is used where other ways meet before the end of the block that they come from, which is
        # too early for what its last instruction makes. So there is another one.
        return self.temp(f"freeze i64 {name}") if result == "i64" else name

    def _refusable_load(self, v: Value) -> None:
        pointer, bits = self._near_pointer(self.ref(v.args[0])), v.type.total_bits
        memory = f"i{bits}"
        users = [user for user in self._step.flat if any(a is v for a in user.args)]
        if bits == 128:
            self._pairs[id(v)] = pair = self._refusable("vmovdqu $1, $0", pointer, memory, "<2 x i64>")
            self.define(v, f"bitcast <2 x i64> {pair} to {self.llvm_type(v.type)}")
            return
        if (bits == 64 and v.type.lanes > 1) or (bits >= 32 and users and all(self._goes_to_vector(u) for u in users)):
            move = "vmovsd" if bits == 64 else "vmovss"
            self._doubles[id(v)] = double = self._refusable(f"{move} $1, $0", pointer, memory, "double")
            whole = self.temp(f"bitcast double {double} to i64") if v.type.lanes == 1 else ""
            self.define(v, f"trunc i64 {whole} to i32" if bits == 32 else f"bitcast double {double} to {self.llvm_type(v.type)}")
            return
        if bits == 64:
            self.set(v, self._refusable("movq $1, $0", pointer, memory, "i64"))
            return
        kind = "sext" if any(user.op == "sext" and user.type is I64 for user in users) else "zext"
        wide = self._refusable(_MOVES[bits][kind], pointer, memory, "i64")
        self._extended[id(v)] = kind, wide
        narrow = self.temp(f"trunc i64 {wide} to {memory}")
        self.set(v, narrow if v.type.lanes == 1 else self.temp(f"bitcast {memory} {narrow} to {self.llvm_type(v.type)}"))

    def _goes_to_vector(self, user: Value) -> bool:
        """True where what was loaded is best in one of the host's vector registers."""
        if user.op == "set":
            return self._held and self._held_type(self._register_key(user)) is F64
        return (user.op == "zext" and user.type is I128) or (user.op == "bitcast" and user.type.is_float)

    def _refusable_store(self, v: Value) -> None:
        pointer, value = self._near_pointer(self.ref(v.args[0])), v.args[1]
        bits = value.type.total_bits
        memory, double = f"i{bits}", self._doubles.get(id(value)) or self._lows.get(id(value))
        if bits == 128:
            pair = self._pairs.get(id(value)) or self.temp(f"bitcast {self.typed(value)} to <2 x i64>")
            self._refusable("vmovdqu $1, $0", pointer, memory, value=f"<2 x i64> {pair}")
        elif double is not None and bits >= 32:
            self._refusable(f"{'vmovsd' if bits == 64 else 'vmovss'} $1, $0", pointer, memory, value=f"double {double}")
        elif value.type.lanes > 1 or value.type.is_float:
            whole = self.temp(f"bitcast {self.typed(value)} to i{bits}")
            self._refusable(f"{_MOVES[bits]['store']} $1, $0", pointer, memory, value=f"i{bits} {whole}")
        elif value.op == "const" and -(1 << 31) <= (number := value.type.signed(value.bits)) < 1 << 31:
            self._refusable(f"{_MOVES[value.type.bits]['store']} $${number}, $0", pointer, memory)
        else:
            self._refusable(f"{_MOVES[value.type.bits]['store']} $1, $0", pointer, memory, value=self.typed(value))
