"""Random code with loops, branches, calls and jumps through registers, on memory between pages that are not there.

`Maker` puts pieces together; the makers of `tests.differential.guests` know a guest's instructions. Some registers point into the
memory or count, and random instructions do not write them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    import random

CODE, CODE_SIZE = 0x1000000, 0x400000
DATA, DATA_SIZE = 0x400000, 0x4000
MIDDLE = DATA + DATA_SIZE // 2


class Maker(ABC):
    """Makes streams. A subclass has a guest's instructions, each by what it is for."""

    name: ClassVar[str]
    registers: ClassVar[tuple[str, ...]]  # what is compared, by name
    nops: ClassVar[dict[int, int]]  # by their length
    end: ClassVar[bytes]  # the system call that ends a stream
    link: ClassVar[int]
    counters: ClassVar[tuple[int, int]]  # of inner loops, of outer ones
    rng: random.Random
    walks = False  # accesses go through the register that moves

    @abstractmethod
    def one(self) -> bytes:
        """A random instruction that goes on with the next one and stays in its memory."""

    @abstractmethod
    def values(self) -> dict[str, int]:
        """What registers start from."""

    @abstractmethod
    def skip(self, over: bytes) -> bytes:
        """A jump or a random branch over some instructions."""

    @abstractmethod
    def jump(self, distance: int) -> bytes:
        """To another place."""

    @abstractmethod
    def call(self, distance: int) -> bytes:
        """The same, with the address behind it in `link`."""

    @abstractmethod
    def back(self) -> bytes:
        """To the address in `link`."""

    @abstractmethod
    def mode(self) -> bytes:
        """Another rounding mode."""

    @abstractmethod
    def count(self, register: int, rounds: int) -> bytes:
        """Let a counter start."""

    @abstractmethod
    def again(self, register: int, length: int) -> bytes:
        """Count down, and go back over `length` bytes before this until there is nothing left."""

    @abstractmethod
    def walk(self, offset: int) -> bytes:
        """Let the register that moves point so far from the middle of the memory."""

    @abstractmethod
    def step(self, distance: int) -> bytes:
        """Move it."""

    @abstractmethod
    def anywhere(self) -> bytes:
        """An access through any register."""

    @abstractmethod
    def near(self) -> bytes:
        """A load through the register that moves."""

    def straight(self, most: int) -> bytes:
        """Up to so many instructions in a row."""
        return b"".join(self.one() for _ in range(self.rng.randint(1, most)))

    def body(self, pieces: int, depth: int) -> bytes:
        """Pieces of code, one after the other."""
        return b"".join(self.piece(depth) for _ in range(pieces))

    def piece(self, depth: int) -> bytes:
        """Something; loops where `depth` is left for them."""
        kind = self.rng.randrange(10)
        if kind < 4:
            return self.straight(10)
        if kind < 7 or depth == 0:
            return self.skip(self.straight(6))
        if kind == 7:
            return self._calls()
        return self.mode() if kind == 8 else self._loop(depth)

    def _calls(self) -> bytes:
        """A function behind a jump, called a few times."""
        function = self.straight(8) + self.back()
        code = bytearray(self.jump(4 + len(function)) + function)
        for _ in range(self.rng.randint(1, 3)):
            code += self.straight(3)
            code += self.call(4 - len(code))
        return bytes(code)

    def _loop(self, depth: int) -> bytes:
        rng = self.rng
        counter = self.counters[depth == 2]
        rounds = rng.choice((2, 5, 6, 8, 20)) if depth == 2 else rng.choice((3, 6, 9, 40))
        head = self.count(counter, rounds)
        before, self.walks = self.walks, depth == 1 or rng.random() < 0.5
        if self.walks:
            head += self.walk(rng.randrange(-1500, 1500))
        step = self.step(rng.randint(-4000 // rounds, 4000 // rounds) & rng.choice((-1, -8, -8))) if self.walks else b""
        code = self.body(rng.randint(1, 3), 1) if depth == 2 and rng.random() < 0.5 else self.straight(10)
        if depth == 2:  # the inner loop may have moved it
            step = b"" if len(code) > 60 else step
        self.walks = before
        code += step
        return head + code + self.again(counter, len(code))

    def stream(self, length: int) -> bytes:
        """Code of about so many instructions, with its end."""
        rng, code = self.rng, bytearray()
        while len(code) < 3 * length:
            code += self.piece(2)
        kind = rng.randrange(6)
        if kind == 0:
            code += self.anywhere()
        elif kind == 1:  # a loop that leaves its memory
            counter = self.counters[1]
            head = self.walk(0) + self.count(counter, 2000)
            before, self.walks = self.walks, True
            loop = self.straight(6) + self.straight(6)
            self.walks = before
            loop += self.step(rng.choice((40, 64, 63, 200, -64, -48, 128))) + self.near()
            code += head + loop + self.again(counter, len(loop))
        return bytes(code) + self.end


class Stream(NamedTuple):
    """Code, what it starts from, and after how many instructions it is stopped for once (0: not at all)."""

    code: bytes
    registers: dict[str, int]
    memory: bytes
    stop: int

    @classmethod
    def made(cls, maker: Maker, code: bytes) -> Stream:
        """`code` with a random state."""
        stop = maker.rng.randrange(1, len(code)) if maker.rng.random() < 0.2 else 0
        return cls(code, maker.values(), maker.rng.randbytes(DATA_SIZE), stop)
