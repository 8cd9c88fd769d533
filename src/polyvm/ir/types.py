"""The value types of the IR: integers, IEEE 754 binary floats, and vectors of either."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Type:
    """A value type: `kind` is ``"int"`` or ``"float"``, `bits` the width of one lane, `lanes` 1 for a scalar.

    Types are interned: equal types are the same object.
    """

    __slots__ = ("bits", "kind", "lanes", "mask", "name")

    _interned: dict[tuple[str, int, int], Type] = {}

    kind: str
    bits: int
    lanes: int
    mask: int
    name: str

    def __new__(cls, kind: str, bits: int, lanes: int = 1) -> Type:
        key = (kind, bits, lanes)
        found = cls._interned.get(key)
        if found is not None:
            return found
        self = super().__new__(cls)
        self.kind = kind
        self.bits = bits
        self.lanes = lanes
        self.mask = (1 << bits) - 1
        scalar = f"{'i' if kind == 'int' else 'f'}{bits}"
        self.name = scalar if lanes == 1 else f"v{lanes}{scalar}"
        cls._interned[key] = self
        return self

    @property
    def is_int(self) -> bool:
        """True for integers and vectors of integers."""
        return self.kind == "int"

    @property
    def is_float(self) -> bool:
        """True for floats and vectors of floats."""
        return self.kind == "float"

    @property
    def element(self) -> Type:
        """The type of one lane."""
        return Type(self.kind, self.bits)

    @property
    def total_bits(self) -> int:
        """The width of all lanes together."""
        return self.bits * self.lanes

    @property
    def compared(self) -> Type:
        """The type of a comparison's result: an i1 for each lane."""
        return Type("int", 1, self.lanes)

    def splat(self, lane: int) -> int:
        """The bits of a value whose lanes are all `lane`, taken modulo 2**bits."""
        return self.join([lane] * self.lanes) if self.lanes > 1 else lane & self.mask

    def vector(self, lanes: int) -> Type:
        """The vector type with `lanes` lanes of this scalar type."""
        return Type(self.kind, self.bits, lanes)

    def with_kind(self, kind: str) -> Type:
        """The type of the same shape with another `kind`."""
        return Type(kind, self.bits, self.lanes)

    def split(self, bits: int) -> list[int]:
        """The lanes of a value of this type; lane 0 is the lowest."""
        return [bits >> i * self.bits & self.mask for i in range(self.lanes)]

    def join(self, lanes: Iterable[int]) -> int:
        """A value of this type from its lanes."""
        return sum((lane & self.mask) << i * self.bits for i, lane in enumerate(lanes))

    def signed(self, value: int) -> int:
        """`value` (0 ≤ value < 2**bits) read as two's complement."""
        return value - (1 << self.bits) if value >> (self.bits - 1) else value

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[type[Type], tuple[str, int, int]]:
        return (Type, (self.kind, self.bits, self.lanes))


def int_type(bits: int) -> Type:
    """The integer type of `bits` bits."""
    return Type("int", bits)


def parse_type(name: str) -> Type:
    """The type whose `name` is given; raises ValueError for a name that no type has."""
    rest, lanes = name, 1
    if rest.startswith("v"):
        cut = max(rest.find("i"), rest.find("f"))
        lanes = int(rest[1:cut])
        rest = rest[cut:]
    if rest[:1] not in ("i", "f"):
        raise ValueError(f"no such type: {name}")
    return Type("int" if rest[0] == "i" else "float", int(rest[1:]), lanes)


I1 = Type("int", 1)
I8 = Type("int", 8)
I16 = Type("int", 16)
I32 = Type("int", 32)
I64 = Type("int", 64)
I128 = Type("int", 128)
F16 = Type("float", 16)
F32 = Type("float", 32)
F64 = Type("float", 64)
