"""Instructions that share a handler, because they often follow each other.

Chosen by how often each pair, and then each longer sequence, is executed in the programs of bench/programs; and comparisons with
what reads their flags.
"""

from __future__ import annotations

# Pairs. First instruction: those that follow; "name:operand": that operand is what the instruction before writes.
_TABLE = """
add_w: add_w add_w:rn add_x_imm eor_w extr_w ldrb_w_uxtw mov_w subs_w subs_w:rn subs_w_imm subs_w_imm:rn
add_w_imm: add_w_imm and_w_imm and_x_ones and_x_ones:rn subs_w_imm subs_w_imm:rn
add_x: add_x add_x_imm add_x_lsl and_w str_x_imm subs_w subs_x
add_x_imm: add_w add_x add_x:rm add_x_imm ldr_w_imm ldrb_w_lsl mov_w mov_x stp_x str_x_imm str_x_imm:rt sub_x_imm subs_w
    subs_w_imm subs_x subs_x:rm subs_x_imm subs_x_imm:rn ubfm_w ubfm_x
add_x_lsl: add_x_imm str_x_lsl str_x_lsl:rt sub_x_lsl
add_x_sxtw: ldp_x
adds_x_imm: b.ne
adrp: add_x_imm add_x_imm:rn ldr_x_imm ldr_x_imm:rn mov_x
and_w: and_w eor_w_ror
and_w_imm: and_w_imm ldp_x ldrb_w_lsl sub_w_imm subs_w_imm
and_x_ones: ldr_w_lsl_shifted ldr_w_lsl_shifted:rm ubfm_x
ands_w: b.eq b.ne csel_w_eq csel_w_ne csinc_w_eq csinc_w_ne
ands_w_imm: b.eq b.ne csel_w_eq csel_w_ne csinc_w_eq csinc_w_ne
ands_x: b.eq b.ne csel_x_eq csel_x_ne csinc_w_eq csinc_w_ne
ands_x_imm: b.eq b.ne csel_x_eq csel_x_ne csinc_w_eq csinc_w_ne
ands_x_ones: b.eq b.ne csel_x_eq csel_x_ne csinc_w_eq csinc_w_ne
bic_w: eor_w_ror
ccmp_w: b.cc b.cs b.eq b.gt b.hi b.le b.ls b.ne
ccmp_w_imm: b.cc b.cs b.eq b.gt b.hi b.le b.ls b.ne
ccmp_x: b.cc b.cs b.eq b.gt b.hi b.le b.ls b.ne
ccmp_x_imm: b.cc b.cs b.eq b.gt b.hi b.le b.ls b.ne
csinc_w_ls: sbc_w sbc_w:rn
csneg_w_pl: subs_w subs_w:rn
eor_w: add_w and_x_ones and_x_ones:rn eor_w_ror ldr_w_imm ldrb_w_pre
eor_w_lsr: subs_x
eor_w_ror: add_w bic_w ldr_w_imm
eor_x: add_x_imm
extr_w: add_x and_w
hint: and_x_ones
ldp_x: add_x_sxtw eor_x ldp_x ldp_x_post ldr_x_imm mov_x sub_x_imm
ldp_x_post: ret ret:rn
ldr_w_imm: add_x_imm eor_w ldr_w_imm ldr_x_imm mov_x subs_w subs_w:rm ubfm_w
ldr_w_lsl_shifted: add_x add_x_imm eor_w_lsr eor_w_lsr:rn str_w_post str_w_post:rt
ldr_w_post: add_x_imm sub_x_imm
ldr_x_imm: add_x_imm add_x_imm:rn cbz_x cbz_x:rt ldp_x_post ldr_x_imm ldr_x_lsl_shifted mov_x stp_x str_x_imm
    str_x_imm:rt str_x_post str_x_post:rt sub_x sub_x_imm subs_x subs_x:rm subs_x:rn subs_x_imm
ldr_x_lsl_shifted: br br:rn ldr_x_lsl_shifted mov_x str_x_lsl_shifted str_x_post str_x_post:rt
ldrb_w_imm: add_x_imm cbnz_w cbz_w subs_w_imm subs_w_imm:rn
ldrb_w_lsl: ldrb_w_uxtw movz_w_0 strb_w_lsl strb_w_lsl:rt strb_w_pre subs_w subs_w:rm
ldrb_w_post: eor_w eor_w:rn
ldrb_w_pre: mul_w
ldrb_w_uxtw: add_w ldrb_w_uxtw
ldrsw_x_imm: mov_x sub_x_imm
ldrsw_x_lsl_shifted: add_w_imm add_x
ldrsw_x_post: ldp_x ldr_x_imm ldr_x_lsl_shifted ldr_x_lsl_shifted:rm str_x_post str_x_post:rt
lsr_x: cbz_x
madd_w: add_x_imm ldr_w_imm ubfm_x
mov_w: add_w b mov_w sub_w_imm subs_x_imm ubfm_x
mov_x: add_x_imm add_x_lsl bl blr br cbnz_x ldp_x ldr_w_post ldr_x_imm ldrb_w_lsl ldrsw_x_post mov_x movz_x_0 stp_x
    str_x_imm subs_w subs_x ubfm_x
movz_w_0: bl ldrb_w_lsl movz_w_0 subs_w_imm
movz_x_0: b.ne mov_w subs_w_imm
msub_w: mul_w sub_w_imm
mul_w: cbnz_w ubfm_w ubfm_w:rn
rbit_x: clz_x
sbc_w: ret
sbfm_x: ldr_w_lsl_shifted ldr_w_lsl_shifted:rm movz_w_0
stp_x: add_x_imm adrp mov_x movz_x_0 sub_w_imm
stp_x_pre: add_x_imm
str_w_imm: str_w_imm sub_x_imm ubfm_x
str_w_lsl_shifted: add_x_imm subs_x
str_w_post: str_w_lsl_shifted subs_x_imm
str_x_imm: add_x_imm b br ldr_x_imm ldr_x_lsl_shifted movz_x_0 sub_x_imm subs_w_imm
str_x_lsl: str_x_imm
str_x_lsl_shifted: br
str_x_post: ldr_x_lsl_shifted ldrsw_x_post mov_x
strb_w_lsl: add_x_imm
strb_w_post: subs_x
strb_w_pre: subs_x_imm
strb_w_uxtw: add_w
sub_w: movz_x_0
sub_w_imm: and_w_imm bl sbfm_x sub_w sub_w_imm
sub_x: ldrb_w_imm str_x_imm subs_x
sub_x_imm: adds_x_imm b ldr_x_lsl_shifted ldrsw_x_post str_w_imm str_w_post subs_w subs_x
sub_x_lsl: mov_x
subs_w: b.cc b.cs b.eq b.ge b.gt b.hi b.le b.ls b.lt b.ne ccmp_w ccmp_w_imm ccmp_x ccmp_x_imm csel_w_cc csel_w_cs
    csel_w_eq csel_w_ge csel_w_gt csel_w_hi csel_w_le csel_w_ls csel_w_lt csel_w_ne csinc_w_eq csinc_w_gt csinc_w_hi
    csinc_w_le csinc_w_ls csinc_w_ne csneg_w_pl csneg_w_pl:rn
subs_w_imm: b.cc b.cs b.eq b.ge b.gt b.hi b.le b.ls b.lt b.mi b.ne b.pl ccmp_w ccmp_w_imm ccmp_x ccmp_x_imm csel_w_cc
    csel_w_cs csel_w_eq csel_w_ge csel_w_gt csel_w_hi csel_w_le csel_w_ls csel_w_lt csel_w_ne csinc_w_eq csinc_w_gt
    csinc_w_hi csinc_w_le csinc_w_ls csinc_w_ne
subs_x: b.cc b.cs b.eq b.ge b.gt b.hi b.le b.ls b.lt b.ne ccmp_w ccmp_w_imm ccmp_x ccmp_x_imm csel_x_cc csel_x_cs
    csel_x_eq csel_x_ge csel_x_gt csel_x_hi csel_x_le csel_x_ls csel_x_lt csel_x_ne csinc_w_eq csinc_w_gt csinc_w_hi
    csinc_w_le csinc_w_ls csinc_w_ne movz_x_0
subs_x_imm: b.cc b.cs b.eq b.ge b.gt b.hi b.le b.ls b.lt b.mi b.ne b.pl ccmp_w ccmp_w_imm ccmp_x ccmp_x_imm csel_x_cc
    csel_x_cs csel_x_eq csel_x_ge csel_x_gt csel_x_hi csel_x_le csel_x_ls csel_x_lt csel_x_ne csinc_w_eq csinc_w_gt
    csinc_w_hi csinc_w_le csinc_w_ls csinc_w_ne
ubfm_w: ldr_x_lsl_shifted udiv_w udiv_w:rn umaddl
ubfm_x: add_x add_x:rm add_x_lsl extr_w ldr_w_lsl_shifted ldrsw_x_lsl_shifted msub_w strb_w_post
udiv_w: msub_w msub_w:rn
umaddl: ubfm_x
umulh: mov_x
"""

# Longer sequences, each an extension of one above.
_LONGER = """
add_w add_w add_w
add_w add_w add_x_imm
add_w add_w:rn add_w:rn
add_w add_w:rn add_w:rn subs_w_imm:rn
add_w add_w:rn ldrb_w_uxtw
add_w add_w:rn ldrb_w_uxtw add_w
add_w add_w:rn subs_w_imm:rn
add_w add_w:rn subs_w_imm:rn b.eq
add_w add_x_imm add_w
add_w eor_w eor_w_ror
add_w extr_w and_w
add_w ldrb_w_uxtw add_w
add_w ldrb_w_uxtw add_w add_w:rn
add_w ldrb_w_uxtw add_w ldrb_w_uxtw
add_w ldrb_w_uxtw ldrb_w_uxtw
add_w ldrb_w_uxtw ldrb_w_uxtw add_w
add_w mov_w add_w
add_w mov_w subs_x_imm
add_w subs_w:rn b.ls
add_w subs_w_imm:rn b.eq
add_w_imm add_w_imm and_w_imm
add_w_imm add_w_imm and_w_imm and_w_imm
add_w_imm and_w_imm and_w_imm
add_w_imm and_w_imm and_w_imm ldrb_w_lsl
add_w_imm and_x_ones:rn ubfm_x
add_w_imm subs_w_imm:rn b.eq
add_x add_x and_w
add_x add_x_imm add_x_imm
add_x add_x_lsl str_x_lsl:rt
add_x and_w eor_w_ror
add_x subs_w b.ne
add_x subs_x b.lt
add_x_imm add_w mov_w
add_x_imm add_x subs_x
add_x_imm add_x subs_x b.lt
add_x_imm ldrb_w_lsl subs_w:rm
add_x_imm ldrb_w_lsl subs_w:rm b.eq
add_x_imm mov_w b
add_x_imm stp_x adrp
add_x_imm stp_x movz_x_0
add_x_imm stp_x movz_x_0 subs_w_imm
add_x_imm str_x_imm:rt subs_w_imm
add_x_imm subs_w b.cc
add_x_imm subs_w b.ne
add_x_imm subs_x:rm b.ne
add_x_imm subs_x_imm:rn b.ne
add_x_lsl str_x_lsl:rt str_x_imm
add_x_sxtw ldp_x ldp_x_post
add_x_sxtw ldp_x ldp_x_post ret:rn
and_w and_w eor_w_ror
and_w eor_w_ror add_w
and_w eor_w_ror bic_w
and_w_imm and_w_imm ldrb_w_lsl
and_w_imm and_w_imm ldrb_w_lsl movz_w_0
and_w_imm ldp_x add_x_sxtw
and_w_imm ldp_x add_x_sxtw ldp_x
and_w_imm ldrb_w_lsl movz_w_0
and_w_imm ldrb_w_lsl movz_w_0 ldrb_w_lsl
and_w_imm sub_w_imm sub_w
and_w_imm sub_w_imm sub_w movz_x_0
and_x_ones ldr_w_lsl_shifted:rm eor_w_lsr:rn
and_x_ones ldr_w_lsl_shifted:rm eor_w_lsr:rn subs_x
and_x_ones ubfm_x ldrsw_x_lsl_shifted
bic_w eor_w_ror ldr_w_imm
csinc_w_ls sbc_w:rn ret
csneg_w_pl subs_w:rn b.eq
eor_w add_w extr_w
eor_w and_x_ones:rn ldr_w_lsl_shifted:rm
eor_w and_x_ones:rn ldr_w_lsl_shifted:rm eor_w_lsr:rn
eor_w eor_w_ror add_w
eor_w ldr_w_imm eor_w
eor_w ldrb_w_pre mul_w
eor_w_lsr subs_x b.ne
eor_w_ror add_w add_w
eor_w_ror add_w eor_w
eor_w_ror bic_w eor_w_ror
eor_w_ror ldr_w_imm eor_w
eor_x add_x_imm add_x
eor_x add_x_imm add_x subs_x
extr_w add_x add_x
extr_w and_w and_w
ldp_x add_x_sxtw ldp_x
ldp_x add_x_sxtw ldp_x ldp_x_post
ldp_x eor_x add_x_imm
ldp_x eor_x add_x_imm add_x
ldp_x ldp_x_post ret:rn
ldp_x sub_x_imm ldr_x_lsl_shifted
ldr_w_imm add_x_imm subs_w
ldr_w_imm add_x_imm subs_w b.ne
ldr_w_imm eor_w add_w
ldr_w_imm eor_w ldr_w_imm
ldr_w_imm ldr_w_imm subs_w:rm
ldr_w_imm ldr_w_imm subs_w:rm csinc_w_ls
ldr_w_imm subs_w:rm b.ne
ldr_w_imm subs_w:rm csinc_w_ls
ldr_w_imm subs_w:rm csinc_w_ls sbc_w:rn
ldr_w_imm ubfm_w udiv_w:rn
ldr_w_lsl_shifted eor_w_lsr:rn subs_x
ldr_w_lsl_shifted eor_w_lsr:rn subs_x b.ne
ldr_w_lsl_shifted str_w_post:rt str_w_lsl_shifted
ldr_w_post add_x_imm subs_w
ldr_w_post add_x_imm subs_w b.cc
ldr_w_post sub_x_imm subs_w
ldr_w_post sub_x_imm subs_w b.hi
ldr_x_imm add_x_imm:rn str_x_imm:rt
ldr_x_imm ldp_x_post ret:rn
ldr_x_lsl_shifted ldr_x_lsl_shifted str_x_post:rt
ldr_x_lsl_shifted mov_x br
ldr_x_lsl_shifted str_x_post:rt mov_x
ldrb_w_imm add_x_imm ldrb_w_lsl
ldrb_w_imm add_x_imm ldrb_w_lsl subs_w:rm
ldrb_w_lsl ldrb_w_uxtw ldrb_w_uxtw
ldrb_w_lsl ldrb_w_uxtw ldrb_w_uxtw add_w
ldrb_w_lsl movz_w_0 ldrb_w_lsl
ldrb_w_lsl movz_w_0 ldrb_w_lsl ldrb_w_uxtw
ldrb_w_lsl strb_w_lsl:rt add_x_imm
ldrb_w_lsl strb_w_lsl:rt add_x_imm subs_x:rm
ldrb_w_lsl subs_w:rm b.eq
ldrb_w_post eor_w:rn and_x_ones:rn
ldrb_w_post eor_w:rn and_x_ones:rn ldr_w_lsl_shifted:rm
ldrb_w_pre mul_w cbnz_w
ldrb_w_uxtw add_w add_w:rn
ldrb_w_uxtw add_w add_w:rn add_w:rn
ldrb_w_uxtw add_w add_w:rn ldrb_w_uxtw
ldrb_w_uxtw add_w ldrb_w_uxtw
ldrb_w_uxtw add_w ldrb_w_uxtw add_w
ldrb_w_uxtw add_w ldrb_w_uxtw ldrb_w_uxtw
ldrb_w_uxtw ldrb_w_uxtw add_w
ldrb_w_uxtw ldrb_w_uxtw add_w add_w:rn
ldrb_w_uxtw ldrb_w_uxtw add_w ldrb_w_uxtw
ldrsw_x_imm mov_x ldrsw_x_post
ldrsw_x_lsl_shifted add_w_imm and_x_ones:rn
ldrsw_x_lsl_shifted add_x add_x_lsl
ldrsw_x_post ldp_x sub_x_imm
ldrsw_x_post ldr_x_lsl_shifted ldr_x_lsl_shifted
ldrsw_x_post ldr_x_lsl_shifted:rm br:rn
ldrsw_x_post str_x_post:rt ldr_x_lsl_shifted
madd_w ldr_w_imm ubfm_w
mov_w add_w mov_w
mov_w mov_w mov_w
mov_w mov_w mov_w mov_w
mov_w mov_w ubfm_x
mov_w sub_w_imm bl
mov_w subs_x_imm b.ne
mov_w ubfm_x extr_w
mov_x ldr_w_post add_x_imm
mov_x ldr_w_post add_x_imm subs_w
mov_x ldr_w_post sub_x_imm
mov_x ldr_w_post sub_x_imm subs_w
mov_x ldrsw_x_post ldr_x_lsl_shifted
mov_x ldrsw_x_post str_x_post:rt
mov_x mov_x blr
mov_x mov_x mov_x
mov_x mov_x mov_x blr
movz_w_0 ldrb_w_lsl ldrb_w_uxtw
movz_w_0 ldrb_w_lsl ldrb_w_uxtw ldrb_w_uxtw
movz_w_0 subs_w_imm b.ne
movz_x_0 mov_w sub_w_imm
movz_x_0 mov_w sub_w_imm bl
movz_x_0 subs_w_imm b.eq
msub_w sub_w_imm sbfm_x
sbfm_x ldr_w_lsl_shifted:rm str_w_post:rt
stp_x movz_x_0 subs_w_imm
stp_x movz_x_0 subs_w_imm b.eq
stp_x sub_w_imm sub_w_imm
stp_x sub_w_imm sub_w_imm and_w_imm
stp_x_pre add_x_imm stp_x
stp_x_pre add_x_imm stp_x movz_x_0
str_w_lsl_shifted add_x_imm subs_x_imm:rn
str_w_lsl_shifted subs_x b.ne
str_w_post str_w_lsl_shifted subs_x
str_w_post subs_x_imm ccmp_x_imm
str_w_post subs_x_imm ccmp_x_imm b.eq
str_x_imm add_x_imm subs_x_imm:rn
str_x_imm subs_w_imm b.le
str_x_lsl str_x_imm add_x_imm
str_x_post ldr_x_lsl_shifted mov_x
str_x_post mov_x br
strb_w_lsl add_x_imm subs_x:rm
strb_w_lsl add_x_imm subs_x:rm b.ne
strb_w_lsl add_x_imm subs_x_imm:rn
strb_w_lsl add_x_imm subs_x_imm:rn b.ne
strb_w_uxtw add_w subs_w:rn
strb_w_uxtw add_w subs_w:rn b.ls
sub_w movz_x_0 mov_w
sub_w movz_x_0 mov_w sub_w_imm
sub_w_imm and_w_imm sub_w_imm
sub_w_imm and_w_imm sub_w_imm sub_w
sub_w_imm sbfm_x ldr_w_lsl_shifted:rm
sub_w_imm sub_w movz_x_0
sub_w_imm sub_w movz_x_0 mov_w
sub_w_imm sub_w_imm and_w_imm
sub_w_imm sub_w_imm and_w_imm sub_w_imm
sub_x ldrb_w_imm add_x_imm
sub_x ldrb_w_imm add_x_imm ldrb_w_lsl
sub_x_imm subs_w b.hi
subs_w csinc_w_ls sbc_w:rn
subs_w csinc_w_ls sbc_w:rn ret
subs_w csneg_w_pl:rn subs_w:rn
subs_w csneg_w_pl:rn subs_w:rn b.eq
subs_x_imm ccmp_x_imm b.eq
ubfm_w udiv_w:rn msub_w:rn
ubfm_x extr_w add_x
ubfm_x ldrsw_x_lsl_shifted add_x
udiv_w msub_w:rn sub_w_imm
"""


def _parse() -> list[list[str]]:
    found: list[list[str]] = []
    for entry in _TABLE.replace("\n    ", " ").strip().splitlines():
        first, _, others = entry.partition(": ")
        found += [[first, other] for other in others.split()]
    return found + sorted((line.split() for line in _LONGER.strip().splitlines()), key=len)


SEQUENCES = _parse()
