"""Pairs of instructions that get a handler of their own, because they often follow each other.

Chosen by how often each pair is executed in compiled programs: Debian's python3, perl, gcc, xz, openssl, sqlite3, gawk and bash,
and those in bench/programs, each with the same weight.
"""

from __future__ import annotations

# First instruction: those that follow.
_TABLE = """
ld: ld addi add sd beq slli lw jalr bne jal andi lui xor lbu auipc sub addiw srli bgeu bltu sw blt lhu sb bge slliw lb
    and
sd: sd addi ld add jal auipc beq lw lbu bne andi jalr srli addiw lui sw blt slli sub sh bltu and
addi: addi add sd addiw bltu bne mulw jalr beq fmul.d xor ld jal slli lw bgeu sw fsub.d addw andi srli blt auipc lui
    fadd.d and sub sll sb bge lbu sltiu subw srl lhu or sh mul sltu
add: add addi lw sb ld jal bne beq sd jalr bgeu bge slli bltu lbu fld blt lhu andi and xor auipc or xori fdiv.d addiw
    srli subw fmv.d.x sw sub lb
slli: add srli addi sub blt bge slli and ld andi auipc sd addiw lui lw or xor sll xori
lw: lw addi add xor slli addw ld srliw roriw andi bne slliw beq sd addiw lui rev8 lh sw blt bltu auipc and bge jalr
    bgeu or
addiw: bne addiw addi fmul.d add subw addw andi sw slli beq lw sd jal bge bgeu sh lhu
lbu: addi srliw beq add lbu bne ld andi slli sw addiw sb addw auipc
fmul.d: fadd.d fmul.d addi fsub.d fsd fld
srli: add sw andi slli addi bne jalr beq xor sd addw mul
xor: xor addw mulw andi addiw and or srliw addi sd add
addw: bne bltu addw roriw xor addiw sw lw and addi slli slliw sb lbu add
mulw: addw lbu addi
sb: addw sb bne addiw addi ld lbu lw add bltu lhu sd
roriw: roriw xor srliw
andi: slli addiw bne beq add addi ld sb andi bgeu xori or sltiu lui mul sd
srliw: addi xor slliw addw srliw or slli
auipc: ld addi lw jalr sd sw
flt.d: bne
fadd.d: flt.d fsub.d fadd.d beq fsd bne
fsub.d: addiw addi fsd
fld: fld addi fadd.d add
lui: addi slli ld add sd lui lw bgeu and
sw: addi lw slli bne add ld sw sd beq jal addiw jalr lhu sh
or: or slliw xori xor addw srliw andi sd bne sw beq ld
slliw: srliw slliw or xor lw addw srl addi
and: and xor addw slliw bne add beq addiw addi or slli sw xori ld
fsd: bne fld fadd.d
subw: addi ld bne add
xori: xor and slliw add
sub: slli add lbu addi ld andi beq jal sd sub bgeu bge
srl: andi bne
fmv.d.x: add addi
fsqrt.d: fmul.d
fdiv.d: fld
lhu: addi add beq lhu ld slli andi addiw srli and bgeu lui bne
rev8: srli
sll: addi add and
lh: bge
sltiu: and sltiu slli or
sh: sd jalr addi sh
sltu: and
mul: ld sub
lb: bge
"""


def _pairs() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    first = ""
    for word in _TABLE.split():
        if word.endswith(":"):
            first = word[:-1]
        else:
            found.append((first, word))
    return found


PAIRS: list[tuple[str, str]] = _pairs()
