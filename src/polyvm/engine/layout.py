"""Memory layouts that generated code and Python share: the CPU record, blocks and slots.

CPU record: the guest's registers as its StateLayout says, then the fields below (8 bytes each), then the jump cache.

Translation record: what the translation table holds for an address where a region can be entered.

    +0   code     address of the region's code
    +8   entry    which of the region's entries it is
    +16  parts    address of the parts of guest code that it was made from: their number; then for each
                  address, length in bytes, address of the bytes it had
    +24  go       address of the code for other regions (`go` of the block)

Block: a 128-byte header, of which the first half is what the way from region to region reads, then slots of 16 bytes.

    +0   pc       address of the first instruction
    +8   end      address after the last one
    +16  n        instructions in it (u32)
    +20  size     bytes that it takes, header included (u32)
    +24  count    how often it was entered
    +32  taken    block that the last instruction jumps to (an indirect jump: went to last), or 0 while it is not known
    +40  fall     block at `end`, the same
    +48  go       code that counts an entry, takes the block's instructions from the budget and executes it: where stencils and
                  regions go
    +56  entry    where a region stands for the block: the number of the entry
    +64  seen     `count` when the JIT last looked
    +72  heat     moving average of the instructions interpreted in it between looks
    +80  first    where a region stands for the block: the handler that its first slot had before, else 0
    +88  plain    where stencils stand for the block: the interpreter's handler of its first slot; while it waits for them: the
                  next block that does (1: none), else 0
    +96  next     next block in the same hash bucket
    +104 near     the same as `taken` for stencils, which find a block there that leads to the interpreter while it is not known
    +112 after    the same as `fall`

Slot: what one instruction's handler needs.

    +0   handler  address of the native code
    +8   imm      immediate, signed, 32 bits; where there is none, four more register bytes
    +12  r0 r1 r2 register operands, a byte each; r0 = 0xff marks a slot that is no guest instruction
    +15  off      distance from the block's pc in units of 2 bytes
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from polyvm.ir.state import StateLayout

BLOCK_PC, BLOCK_END, BLOCK_N, BLOCK_COUNT, BLOCK_TAKEN, BLOCK_FALL, BLOCK_GO = 0, 8, 16, 24, 32, 40, 48
BLOCK_SIZE, BLOCK_ENTRY, BLOCK_SEEN, BLOCK_HEAT, BLOCK_FIRST, BLOCK_PLAIN = 20, 56, 64, 72, 80, 88
BLOCK_NEXT, BLOCK_NEAR, BLOCK_AFTER = 96, 104, 112
BLOCK_HEADER = 128
TO_NEAR = BLOCK_NEAR - BLOCK_TAKEN  # … and from `fall` to `after`
SLOT_SIZE = 16
SLOT_IMM, SLOT_REG, SLOT_OFF = 8, 12, 15
PSEUDO = 0xFF
MAX_BLOCK = 64
FUSION_COLUMNS = 256  # at most 255 instructions can continue a fused sequence
MAX_SLOTS = 2 * MAX_BLOCK + 3
BLOCK_BYTES = BLOCK_HEADER + SLOT_SIZE * MAX_SLOTS

ARENA_BYTES = 1 << 26
BUCKET_BITS = 17
JUMP_CACHE_BITS = 16
JUMP_CACHE_MASK = ((1 << JUMP_CACHE_BITS) - 1) << 4
JUMP_CACHE_FOLD = 12  # bits above are folded onto those that an index is made of: code is in several places
SLICE = 1 << 14  # instructions that are granted between looks at the stop word and the code epoch, …
SPREAD_BITS = 10  # … less a random number of so many bits
TABLE_BITS = 17  # of the translation table: 2**TABLE_BITS entries of 16 bytes, address and record
TABLE_PROBES = 8
BETTER_BITS = 16  # after the table 2**BETTER_BITS bytes: not 0 where quickly made code should be left for better code
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: spreads addresses

FIELDS = (
    # the exit record
    "code", "arg0", "arg1", "arg2",
    # instruction counting
    "budget", "granted", "limit", "executed",
    # requests from other threads; the low 32 bits are the stop word
    "stop",
    # guest memory
    "mem", "attr", "epoch_ptr", "epoch",
    # whether the host protects it as the attributes say; a page that has to be marked for that, or 0; addresses that there are,
    # and that there could be
    "guarded", "unmarked", "space", "reach",
    # bits of addresses that count, of which slow handlers make use; the host's clock_gettime
    "address_mask", "f_clock",
    # decoded code
    "arena", "arena_start", "arena_end", "buckets", "link_to",
    # statistics
    "blocks", "decoded", "flushes", "links", "lookups", "jump_hits",
    # hooks
    "hook_skip", "hook_kind", "insn_hooks", "insn_hook_count", "block_hooks", "block_hook_count",
    "coverage", "coverage_mask", "watch_skip",
    # the host's stack pointer where the chain of tail calls was entered, and its rbp
    "host_sp", "host_bp",
    # the JIT: the table of translations or 0; where well made code was left for a tick; whether a region was left for want of
    # budget, and if so where the last one was entered before the tick, else 0; whether each block has to be offered to
    # it before it is executed first, and the address that may go ahead; slices until the next tick; instructions known to be
    # interpreted; functions that regions call
    "translations", "refused", "ticked_in", "forced", "forced_pc", "interpreted", "tick_left", "tick",
    "attached", "resumes",
    "f_refill", "f_lookup", "f_resume", "f_short_budget",
    # stencils: after how many entries a block gets them (0: before it is executed first), the blocks that wait, slices until they
    # get them, where the core's copies are, where they begin, go on, may be written to, and what is copied (see `stamp.py`)
    "warm", "warm_list", "warm_wait", "stamp_start", "stamp_free", "stamp_at", "stamp_end", "stencil_table",
    "stencil_holes", "stencil_code", "stamped",
    # rare exits of regions: the budget, the note of one that was taken often
    "left", "hot_exit",
    # floating point; accrued flags that the host's register does not have
    "frm", "flags", "mxcsr", "host_mxcsr", "scratch", "rm_table",
)  # fmt: skip


class CpuRecord:
    """Offsets in the CPU record of one guest architecture."""

    __slots__ = ("fields", "jump_cache", "layout", "sink", "size")

    def __init__(self, layout: StateLayout) -> None:
        self.layout = layout
        start = -(-layout.size // 64) * 64
        self.fields = {name: start + 8 * i for i, name in enumerate(FIELDS)}
        self.jump_cache = -(-(start + 8 * len(FIELDS)) // 64) * 64
        self.sink = self.jump_cache + (16 << JUMP_CACHE_BITS)  # for links of blocks that are gone
        self.size = self.sink + BLOCK_HEADER

    def __getitem__(self, name: str) -> int:
        return self.fields[name]


# How the rounding-mode table marks modes that the host's control register is not set to: byte m is 0 if arithmetic
# with mode operand m may go ahead (m = 7 is the environment's mode).
RM_TABLE_NEAREST = 0x0001_0101_0101_0100
DEFAULT_MXCSR = 0x1F80


def table_index(pc: int) -> int:
    """The first entry of the translation table that address `pc` may have."""
    return (pc * GOLDEN & (1 << 64) - 1) >> (64 - TABLE_BITS)


def better_index(pc: int) -> int:
    """The byte that says whether there is better code for address `pc`, counted from the start of the translation table."""
    return (16 << TABLE_BITS) + (pc >> 1 & (1 << BETTER_BITS) - 1)


def jump_offset(pc: int) -> int:
    """The distance of the entry that address `pc` has in the jump cache."""
    return (pc ^ pc >> JUMP_CACHE_FOLD) << 3 & JUMP_CACHE_MASK


def coverage_hash(pc: int) -> int:
    """What the block at `pc` sets a bit of a coverage map by: a multiplicative hash, of which the low bits count."""
    return (pc * GOLDEN & (1 << 64) - 1) >> 32
