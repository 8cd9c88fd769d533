"""LLVM text: the module being written, and the parts of a function that every emitter needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.errors import EngineError
from polyvm.ir.types import I64, Type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyvm.ir.value import Value

_FLOATS = {16: "half", 32: "float", 64: "double", 128: "fp128"}


class ModuleText:
    """Functions, declarations and globals of one LLVM module."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._declared: dict[str, str] = {}
        self._tables: list[str] = []
        self.attributes = ""  # more of them, for all functions
        # Of functions for rare cases: "internal", another one by which other modules may use them, or "" where those of another
        # module are used.
        self.rare_linkage = "internal"

    def add(self, text: str) -> None:
        """Append a definition."""
        self._parts.append(text)

    def table(self, name: str, type_: str, entries: Sequence[object]) -> None:
        """Append a constant array."""
        text = ", ".join(f"{type_} {entry}" for entry in entries)
        self._tables.append(name)
        self.add(f"@{name} = internal constant [{len(entries)} x {type_}] [{text}]")

    def declare(self, name: str, text: str) -> None:
        """Declare `name` once."""
        self._declared[name] = text

    def rare_function(self, result: str, name: str, params: Sequence[str], text: str) -> None:
        """Declare a function for a rare case, and define it unless another module does. `params`: type and name."""
        if self.rare_linkage:
            head = f"define {self.rare_linkage} {result} @{name}({', '.join(params)})"
            self.declare(name, f"{head} noinline #0 {{\n{text}\n}}")
        else:
            self.declare(name, f"declare {result} @{name}({', '.join(param.split()[0] for param in params)})")

    @property
    def declared(self) -> dict[str, str]:
        """What was declared, by name."""
        return self._declared

    def split(self, count: int) -> list[str]:
        """The module as up to `count` modules of like size, which together define the same; functions of one that another calls
        are declared there."""
        from re import findall, match

        names: dict[str, str] = {}
        for part in self._parts:
            found = match(r"define ([^{]*)@([\w.]+)\(([^)]*)\)", part)
            if found is not None:
                linkage, name, params = found.groups()
                types = ", ".join(param.rsplit(" ", 1)[0] for param in params.split(", ")) if params else ""
                names[name] = f"declare {linkage}@{name}({types})"
        tables = [part for part in self._parts if not part.startswith("define")]
        bins: list[list[str]] = [list(tables)] + [[] for _ in range(count - 1)]
        sizes = [sum(map(len, tables))] + [0] * (count - 1)
        for part in sorted((part for part in self._parts if part.startswith("define")), key=len, reverse=True):
            # What refers to a table stays with it.
            smallest = 0 if any(f"@{name} " in part or f"@{name})" in part for name in self._tables) else sizes.index(min(sizes))
            bins[smallest].append(part)
            sizes[smallest] += len(part)
        texts: list[str] = []
        for parts in bins:
            used = {name for part in parts for name in findall(r"@([\w.]+)", part)}
            defined = {found[2] for part in parts if (found := match(r"define ([^{]*)@([\w.]+)\(", part)) is not None}
            others = [names[name] for name in sorted(used - defined) if name in names]
            texts.append("\n".join([*parts, *others, *self._declared.values(), self._attributes()]))
        return texts

    def text(self) -> str:
        """The whole module."""
        return "\n".join([*self._parts, *self._declared.values(), self._attributes()])

    def _attributes(self) -> str:
        return f'attributes #0 = {{ nounwind strictfp uwtable(sync) {self.attributes} "no-trapping-math"="false" }}\n'


class FunctionText:
    """Lines of one function, names of its values."""

    def __init__(self, module: ModuleText) -> None:
        self.module = module
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.refs: dict[int, str] = {}
        self.keep: list[Value] = []
        self.terminated = False
        self._count = 0

    @staticmethod
    def llvm_type(type_: Type) -> str:
        """The LLVM name of `type_`."""
        scalar = f"i{type_.bits}" if type_.is_int else _FLOATS[type_.bits]
        return scalar if type_.lanes == 1 else f"<{type_.lanes} x {scalar}>"

    def line(self, text: str) -> None:
        """Append an instruction."""
        self.lines.append(f"  {text}")

    def temp(self, text: str) -> str:
        """Append an instruction with a result; the result's name."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def alloca(self, type_: Type) -> str:
        """A stack slot; passes turn it into registers."""
        self._count += 1
        name = f"%v{self._count}"
        self.allocas.append(f"  {name} = alloca {self.llvm_type(type_)}")
        return name

    def set(self, value: Value, name: str) -> None:
        """`value` is called `name` from here on."""
        self.refs[id(value)] = name
        self.keep.append(value)

    def define(self, value: Value, text: str) -> None:
        """Append the instruction that computes `value`."""
        self.set(value, self.temp(text))

    def constant(self, type_: Type, bits: int) -> str:
        """A literal."""
        if type_.lanes > 1:
            element = type_.element
            parts = [(bits >> (i * type_.bits)) & type_.mask for i in range(type_.lanes)]
            return f"<{', '.join(f'{self.llvm_type(element)} {self.constant(element, p)}' for p in parts)}>"
        if type_.is_float:
            return f"bitcast (i{type_.bits} {bits} to {self.llvm_type(type_)})"
        if type_.bits == 1:
            return "true" if bits else "false"
        return str(type_.signed(bits))

    def ref(self, value: Value) -> str:
        """The operand text of `value`, without its type."""
        if value.op == "const":
            return self.constant(value.type, value.bits)
        if value.op == "param":
            return f"%p{value.attrs['index']}"
        name = self.refs.get(id(value))
        if name is None:
            if value.op == "operand":
                return self.operand(value)
            raise EngineError(f"{value.op} is used before it is computed")
        return name

    def operand(self, value: Value) -> str:
        """The operand text of an instruction's operand; stages that have operands override this."""
        raise EngineError(f"operand {value.attrs['name']} has no value in this stage")

    def typed(self, value: Value) -> str:
        """The operand text of `value` with its type."""
        return f"{self.llvm_type(value.type)} {self.ref(value)}"

    def label(self) -> str:
        """A new label."""
        self._count += 1
        return f"L{self._count}"

    def place(self, label: str) -> None:
        """Start the basic block `label`."""
        if not self.terminated:
            self.jump_to(label)
        self.lines.append(f"{label}:")
        self.terminated = False

    def jump_to(self, label: str) -> None:
        """End this basic block by going to `label`, unless it has ended."""
        if not self.terminated:
            self.line(f"br label %{label}")
            self.terminated = True

    def branch_to(self, cond: str, then: str, other: str, *, unlikely: bool = False) -> None:
        """End this basic block by a test; `unlikely` says that `then` is the cold side."""
        weights = ", !prof !0" if unlikely else ""
        if unlikely:
            self.module.declare("!0", '!0 = !{!"branch_weights", i32 1, i32 100000}')
        self.line(f"br i1 {cond}, label %{then}, label %{other}{weights}")
        self.terminated = True

    def intrinsic(self, name: str, type_: Type | None, args: list[tuple[Type, str]], extra: str = "") -> str:
        """Call the intrinsic ``llvm.<name>``; `extra` are metadata arguments."""
        result = self.llvm_type(type_) if type_ else "void"
        types = [self.llvm_type(t) for t, _ in args]
        extra_types = ", ".join(["metadata"] * (extra.count("!"))) if extra else ""
        declared = ", ".join(types + ([extra_types] if extra_types else []))
        self.module.declare(f"llvm.{name}", f"declare {result} @llvm.{name}({declared})")
        passed = ", ".join([f"{self.llvm_type(t)} {a}" for t, a in args] + ([extra] if extra else []))
        if type_ is None:
            self.line(f"call void @llvm.{name}({passed}) #0")
            return ""
        return self.temp(f"call {result} @llvm.{name}({passed}) #0")

    def pointer(self, address: str, offset: int = 0) -> str:
        """A pointer from an i64 `address`."""
        base = self.temp(f"inttoptr i64 {address} to ptr")
        return self.temp(f"getelementptr i8, ptr {base}, i64 {offset}") if offset else base

    def i64(self, value: Value) -> str:
        """An integer value zero-extended to i64."""
        if value.op == "const" or value.type is I64:
            return self.constant(I64, value.bits) if value.op == "const" else self.ref(value)
        return self.temp(f"zext {self.typed(value)} to i64")
