"""The IR as text, and back.

    v0 = get i64 [slot=x] (7:i64)
    v1 = add i64 v0, 5:i64
    set [slot=x] (8:i64, v1)
    if v2:
      …
    else:
      …

One operation a line, nested regions indented by two blanks. Constants are written in place, as ``number:type``, operands as
``%name:type``, parameters as ``$index:type``. `parse_region` reads what `print_region` writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvm.errors import ParseError
from polyvm.ir.builder import Builder
from polyvm.ir.ops import OPS
from polyvm.ir.types import I1, Type, parse_type
from polyvm.ir.value import Region, Value

if TYPE_CHECKING:
    from polyvm.ir.state import StateLayout

_REGIONS = {"if": ("then", "else"), "loop": ("body",)}
_INPUTS = frozenset(("const", "operand", "param"))


class _Printer:
    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.lines: list[str] = []

    def reference(self, value: Value) -> str:
        if value.op == "const":
            return f"{value.bits:#x}:{value.type}"
        if value.op == "operand":
            return f"%{value.attrs['name']}:{value.type}"
        if value.op == "param":
            return f"${value.attrs['index']}:{value.type}"
        return self.names.get(id(value), "?")

    def region(self, region: Region, indent: str) -> None:
        for value in region.ops:
            self._operation(value, indent)

    def _operation(self, value: Value, indent: str) -> None:
        spec = OPS[value.op]
        parts: list[str] = []
        if spec.result != "none":
            name = self.names[id(value)] = f"v{len(self.names)}"
            parts.append(f"{name} =")
        parts.append(value.op)
        if spec.result != "none":
            parts.append(str(value.type))
        attrs = [
            f"{key}={_attribute(item)}" for key, item in value.attrs.items()
            if key not in ("then", "else", "body") and item != ""
        ]  # fmt: skip
        if attrs:
            parts.append(f"[{' '.join(attrs)}]")
        if value.args:
            parts.append(f"({', '.join(self.reference(a) for a in value.args)})")
        nested = _REGIONS.get(value.op, ())
        self.lines.append(indent + " ".join(parts) + (":" if nested else ""))
        for index, key in enumerate(nested):
            inner: Region = value.attrs[key]
            if index:
                if not inner.ops:
                    continue
                self.lines.append(f"{indent}else:")
            self.region(inner, indent + "  ")


def _attribute(item: object) -> str:
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, list | tuple):
        return ",".join(str(part) for part in item)
    return str(item)


def print_region(region: Region) -> str:
    """`region` as text."""
    printer = _Printer()
    printer.region(region, "")
    return "\n".join(printer.lines)


class _Parser:
    def __init__(self, text: str, layout: StateLayout) -> None:
        self.lines = [
            (number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()
        ]  # fmt: skip
        self.at = 0
        self.builder = Builder(layout)
        self.values: dict[str, Value] = {}

    def fail(self, number: int, problem: str) -> ParseError:
        return ParseError(f"line {number}: {problem}")

    def region(self, indent: int) -> Region:
        region = Region()
        while self.at < len(self.lines):
            number, line = self.lines[self.at]
            depth = len(line) - len(line.lstrip(" "))
            if depth < indent or line.strip() == "else:":
                break
            if depth > indent:
                raise self.fail(number, "indented too far")
            self.at += 1
            region.ops.append(self._operation(number, line.strip(), indent))
        return region

    def _operation(self, number: int, line: str, indent: int) -> Value:
        name, equals, rest = line.partition(" = ")
        if not equals:
            name, rest = "", line
        opens = rest.endswith(":")
        rest = rest[:-1] if opens else rest
        head, bracket, tail = rest.partition(" (")
        args: tuple[Value, ...] = ()
        if bracket:
            if not tail.endswith(")"):
                raise self.fail(number, "an argument list without end")
            args = tuple(self._reference(number, part.strip()) for part in tail[:-1].split(","))
        attrs: dict[str, object] = {}
        head, bracket, tail = head.partition(" [")
        if bracket:
            if not tail.endswith("]"):
                raise self.fail(number, "an attribute list without end")
            for item in tail[:-1].split(" "):
                key, equals, value = item.partition("=")
                if not equals:
                    raise self.fail(number, f"{item!r} is no attribute")
                attrs[key] = _parse_attribute(key, value)
        words = head.split(" ")
        spec = OPS.get(words[0])
        if spec is None or words[0] in _INPUTS:
            raise self.fail(number, f"there is no operation {words[0]!r}")
        if (spec.result == "none") == bool(name) or len(words) != (2 if name else 1):
            raise self.fail(number, f"{words[0]} is written with{'out' if spec.result == 'none' else ''} a result and type")
        type_ = self._type(number, words[1]) if name else I1
        for key in spec.attrs:
            if key not in attrs and key in ("hint", "name", "callee", "rules"):
                attrs[key] = ""
        if words[0] in _REGIONS:
            if not opens:
                raise self.fail(number, f"{words[0]} needs a colon and an indented body")
            self._nested(words[0], attrs, indent)
        made = Value(self.builder, words[0], type_, args, attrs)
        if name:
            if name in self.values:
                raise self.fail(number, f"{name} is defined twice")
            self.values[name] = made
        return made

    def _nested(self, op: str, attrs: dict[str, object], indent: int) -> None:
        for index, key in enumerate(_REGIONS[op]):
            attrs[key] = Region()
            if index:
                if self.at >= len(self.lines) or self.lines[self.at][1] != " " * indent + "else:":
                    continue
                self.at += 1
            attrs[key] = self.region(indent + 2)

    def _type(self, number: int, name: str) -> Type:
        try:
            return parse_type(name)
        except ValueError as error:
            raise self.fail(number, str(error)) from None

    def _reference(self, number: int, text: str) -> Value:
        head, colon, type_name = text.partition(":")
        if colon:
            type_ = self._type(number, type_name)
            if head.startswith("%"):
                return Value(self.builder, "operand", type_, (), {"name": head[1:]})
            try:
                if head.startswith("$"):
                    return Value(self.builder, "param", type_, (), {"index": int(head[1:])})
                return self.builder.const(type_, int(head, 0))
            except ValueError:
                raise self.fail(number, f"{head!r} is no number") from None
        found = self.values.get(text)
        if found is None:
            raise self.fail(number, f"{text} is not defined before")
        return found


_NUMBERS = frozenset(("code", "index", "size", "offset", "save", "load"))


def _parse_attribute(key: str, text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    if key == "lanes":
        return tuple(int(part) for part in text.split(","))
    return int(text) if key in _NUMBERS else text


def parse_region(text: str, layout: StateLayout) -> Region:
    """The region that `text` describes; raises ParseError, which names the line."""
    parser = _Parser(text, layout)
    region = parser.region(0)
    if parser.at < len(parser.lines):
        number, line = parser.lines[parser.at]
        raise parser.fail(number, f"{line.strip()!r} stands alone")
    return region
