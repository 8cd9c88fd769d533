"""Instructions that share a handler, because they often follow each other.

Chosen by how often each pair, and then each longer sequence, is executed in compiled programs: Debian's python3, perl, gcc, xz,
openssl, sqlite3, gawk and bash, and those in bench/programs.
"""

from __future__ import annotations

# Pairs. First instruction: those that follow.
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


# Longer sequences, each an extension of one above. "name:operand": that operand is what the instruction before writes.
_LONGER = """
add add add
add add add add
add add add lw
add add addi
add add beq
add add fdiv.d
add add jal
add add lw
add add sd
add addi add
add addi beq
add addi lw
add fld fld
add fld:rs1 fld
add fld:rs1 fld addi
add ld ld
add lw:rs1 addi
add lw:rs1 xor:rs1
add sb:rs1 addw
add xor:rs2 mulw:rs2
add xor:rs2 mulw:rs2 lbu
addi add add
addi add bgeu
addi add:rs1 lw:rs1
addi add:rs1 lw:rs1 add
addi addi add
addi addi add lw:rs1
addi addi addi
addi addi bltu
addi addi bne
addi addi fmul.d
addi addi fsub.d
addi addi mulw
addi addiw addw:rs2
addi addiw bne
addi fmul.d fmul.d
addi fmul.d fmul.d fsub.d
addi fmul.d fsd
addi fsub.d addi
addi fsub.d addi fmul.d
addi sd sd
addi sd sd sd
addi sd:rs1 add
addi sd:rs1 addi
addi sd:rs1 auipc
addi sd:rs1 sd
addi sd:rs1 sd sd
addi sw jal
addi sw slli
addi xor andi:rs1
addiw add bne
addiw addi addi
addiw addi addi addi
addiw addi bltu:rs1
addiw addi bne
addiw addiw addi
addiw addiw addiw
addiw addiw addiw addiw
addiw addiw addiw bne
addiw addiw andi
addiw addiw andi addiw
addiw fmul.d fadd.d
addiw lw srliw
addiw lw srliw slliw
addw addi addiw
addw addiw addw
addw addiw sw
addw addw addw
addw addw addw lw
addw addw lw
addw addw lw lw
addw addw:rs1 addw:rs1
addw addw:rs1 addw:rs1 addiw
addw addw:rs1 roriw
addw addw:rs1 roriw roriw
addw addw:rs1 sw:rs2
addw addw:rs1 sw:rs2 lw
addw lw lw
addw lw lw lw
addw roriw roriw
addw roriw roriw roriw
addw roriw roriw srliw
addw slli:rs1 srli:rs1
addw sw:rs2 bne
addw sw:rs2 lw
addw sw:rs2 lw addw
addw xor addw:rs1
addw xor addw:rs1 roriw
addw xor or
addw xor or or
and addiw:rs1 slli:rs1
and addiw:rs1 slli:rs1 srli:rs1
and addw xor
and addw xor addw:rs1
and and xor
and and xor:rs1
and and xor:rs1 addw:rs2
and slliw srliw
and xor:rs1 addw:rs2
and xor:rs1 addw:rs2 addw
andi addiw subw
andi addiw subw:rs1
andi addiw subw:rs1 ld
andi slli:rs1 add:rs1
auipc ld:rs1 jalr:rs1
auipc ld:rs1 ld:rs1
fadd.d fadd.d beq
fadd.d flt.d:rs1 bne:rs1
fadd.d fsd:rs2 bne
fadd.d fsub.d addiw
fadd.d fsub.d addiw fmul.d
fdiv.d fld fld
fld addi addi
fld addi fmul.d
fld fadd.d:rs1 fsd:rs2
fld fld add
fld fld addi
fld fld addi addi
fld fld addi fmul.d
fmul.d addi addi
fmul.d addi fadd.d
fmul.d fmul.d addi
fmul.d fmul.d addi addi
fmul.d fmul.d fadd.d:rs2
fmul.d fmul.d fadd.d:rs2 flt.d:rs1
fmul.d fmul.d fsub.d
fmul.d fsd fadd.d
fmul.d fsd fadd.d bne
fmul.d fsub.d fsd:rs2
fmv.d.x add add
fmv.d.x add add add
fsd fadd.d bne
fsd fld fadd.d:rs1
fsqrt.d fmul.d:rs2 fld
fsqrt.d fmul.d:rs2 fld fld
fsub.d addi fmul.d
fsub.d fsd:rs2 fld
fsub.d fsd:rs2 fld fadd.d:rs1
lbu add beq
lbu addi addi
lbu addi addiw
lbu addi addiw bne
lbu addi bltu
lbu srliw addi
lbu srliw addi xor
ld add add
ld add addi
ld add jalr
ld add ld
ld add ld addi
ld addi add
ld addi bne
ld addi jalr
ld addi sd
ld addi sd addi
ld addi:rs1 sd:rs2
ld ld add
ld ld add addi
ld ld add ld
ld ld addi
ld ld addi jalr
ld ld ld
ld ld ld add
ld ld ld addi
ld ld ld ld
ld ld sd
ld ld sd sd
ld ld xor:rs1
ld ld xor:rs1 addi
ld sd sd
ld sd sd sd
ld sd:rs2 addi
lui addi:rs1 and:rs1
lui slli addi
lw add addi
lw add addi addi
lw add bgeu
lw add bltu
lw add jal
lw add:rs1 jalr:rs1
lw addw addw:rs1
lw addw addw:rs1 roriw
lw lw addi
lw lw addi addi
lw lw lw
lw lw lw lw
lw lw lw roriw
lw lw roriw
lw lw roriw roriw
lw roriw roriw
lw roriw roriw srliw
lw slli add:rs2
lw slli add:rs2 addi
lw slliw slliw
lw slliw slliw lw
mulw addi addw
mulw addi addw sw:rs2
mulw addw:rs2 bne
mulw lbu addi
or addw and
or or or
or or or srliw
or or srliw
or xor addw
or xor addw xor
or xori xor
roriw roriw roriw
roriw roriw roriw xor
roriw roriw srliw
roriw roriw srliw xor:rs1
roriw roriw xor
roriw roriw xor xor
roriw roriw xor xor:rs1
roriw srliw xor:rs1
roriw srliw xor:rs1 xor:rs1
roriw xor xor
roriw xor xor xor
roriw xor xor:rs1
roriw xor xor:rs1 xor
sb sb sb
sb sb sb sb
sd add add
sd add jal
sd addi add
sd addi add addi
sd addi bne:rs1
sd ld ld
sd ld ld ld
sd sd add
sd sd addi
sd sd jal
sd sd ld
sd sd sd
sd sd sd add
sd sd sd addi
sd sd sd sd
slli add:rs1 lw:rs1
slli add:rs1 lw:rs1 add:rs1
slli add:rs1 lw:rs1 xor:rs1
slli add:rs1 slli:rs1
slli add:rs2 bge
slli add:rs2 ld:rs1
slli srli:rs1 add:rs1
slli srli:rs1 add:rs1 sb:rs1
slliw lw srliw
slliw or or
slliw srliw or:rs2
slliw xor srliw
srli sw add
srliw addw and
srliw addw xor
srliw or slliw
srliw slliw slliw
srliw slliw srliw
srliw srliw srliw
srliw xor xor
srliw xor xor addw:rs1
srliw xor xor srliw
srliw xor:rs1 xor:rs1
srliw xor:rs1 xor:rs1 addw:rs1
srliw xor:rs1 xor:rs1 addw:rs2
subw addi add
subw ld ld
sw addi addi
sw addi addi bne
sw addi addi sw
sw addi addiw
sw addi beq:rs2
sw lw addw
sw lw addw addw:rs1
xor addi bne
xor addiw:rs1 bne
xor addw:rs1 roriw
xor addw:rs1 roriw roriw
xor addw:rs2 addw
xor addw:rs2 addw addw
xor addw:rs2 addw:rs1
xor addw:rs2 addw:rs1 sw:rs2
xor and addw
xor and addw xor
xor and and
xor and and xor:rs1
xor and slliw
xor mulw:rs2 lbu
xor mulw:rs2 lbu addi
xor or or
xor srliw xor
xor xor addw
xor xor addw:rs1
xor xor and
xor xor and addw
xor xor and and
xor xor xor
xor xor xor and
xor xor:rs1 addw:rs1
xor xor:rs1 addw:rs1 roriw
xor xor:rs1 addw:rs2
xor xor:rs1 addw:rs2 addw:rs1
xor xor:rs1 xor
xor xor:rs1 xor and
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
LONGER: list[list[str]] = [list(line.split()) for line in _LONGER.strip().splitlines()]
