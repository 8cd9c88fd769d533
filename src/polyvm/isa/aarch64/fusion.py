"""Instructions that share a handler, because they often follow each other.

Chosen by how often each pair, and then each longer sequence, is executed in compiled programs: bash, perl, gcc, xz, gzip,
gawk, grep, sed, sort and sqlite3 from Debian, and those in bench/programs; and comparisons with what reads their flags.
"""

from __future__ import annotations

# Pairs. First instruction: those that follow; "name:operand": that operand is what the instruction before writes.
_TABLE = """
add_2s: eor_8b
add_w: add_w add_w:rn add_x_imm eor_w extr_w ldr_d_lsl_shifted ldrb_w_uxtw mov_w mul_w mul_w:rm subs_w subs_w:rn
    subs_w_imm subs_w_imm:rn
add_w_imm: add_w_imm add_x_imm and_w_imm and_x_ones and_x_ones:rn fmadd_d ldr_d_lsl str_w_imm subs_w_imm subs_w_imm:rn
add_x: add_x add_x_imm add_x_lsl and_w ldr_d_imm ldr_d_post ldrb_w_imm ldrb_w_lsl ldrb_w_lsl:rn str_x_imm str_x_lsl
    subs_w subs_w_imm subs_x
add_x_imm: add_w add_x add_x_imm b bl br ldr_d_imm ldr_d_lsl ldr_q_lsl ldr_w_imm ldr_w_lsl_shifted ldr_w_lsl_shifted:rm
    ldr_x_imm ldr_x_imm:rn ldrb_w_imm ldrb_w_lsl mov_w mov_x movz_x_0 ret scvtf_d_w stp_x str_x_imm str_x_imm:rt
    sub_x_imm subs_w subs_w_imm subs_x subs_x:rm subs_x_imm subs_x_imm:rn ubfm_x
add_x_lsl: add_x_imm ldr_d_imm str_x_lsl str_x_lsl:rt
add_x_sxtw: ldp_x
adds_w_imm: b.eq
adrp: add_x_imm add_x_imm:rn ldr_x_imm ldr_x_imm:rn mov_x
and_w: and_w eor_w_ror
and_w_imm: and_w_imm ldp_x ldrb_w_lsl sub_w_imm subs_w_imm
and_x_ones: ldr_w_lsl_shifted ldr_w_lsl_shifted:rm ldrh_w_lsl_shifted ldrh_w_lsl_shifted:rm ubfm_x
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
eor_8b: add_2s
eor_w: add_w and_x_ones and_x_ones:rn eor_w_ror ldr_w_imm ldrb_w_pre
eor_w_lsr: subs_x
eor_w_ror: add_w bic_w ldr_w_imm
eor_x: add_x_imm
extr_w: add_x and_w
fadd_d: add_w_imm fcmpe_d fcmpe_d:rn subs_w_imm
fcmp_d: b.eq b.ge b.gt b.hi b.le b.ls b.lt b.mi b.ne b.pl
fcmp_d_zero: b.eq b.ge b.gt b.hi b.le b.ls b.lt b.mi b.ne b.pl
fcmp_s: b.eq b.ge b.gt b.hi b.le b.ls b.lt b.mi b.ne b.pl
fcmpe_d: b.eq b.ge b.gt b.hi b.le b.ls b.lt b.mi b.ne b.pl
fcmpe_d_zero: b.eq b.ge b.gt b.hi b.le b.ls b.lt b.mi b.ne b.pl
fcmpe_s: b.eq b.ge b.gt b.hi b.le b.ls b.lt b.mi b.ne b.pl
fdiv_d: fmadd_d fmadd_d:rm
fmadd_d: fadd_d str_d_lsl str_d_lsl:rt subs_x_imm
fmov_x_d: lsr_x
fmsub_d: str_d_imm str_d_imm:rt str_d_post str_d_post:rt
fmul_d: fadd_d fadd_d:rm fmsub_d fmul_d
fsub_d: fadd_d str_d_imm str_d_imm:rt
hint: and_x_ones
ldp_x: add_x_imm add_x_sxtw eor_x ldp_x ldp_x_post ldr_x_imm mov_x sub_x_imm
ldp_x_post: ret ret:rn
ldr_d_imm: add_w_imm add_x fmul_d fmul_d:rn ushr_2s_imm
ldr_d_lsl: fmadd_d fmsub_d fmsub_d:rn fsub_d fsub_d:rm
ldr_d_lsl_shifted: add_w_imm
ldr_d_post: add_x_lsl
ldr_q_lsl: mla_4s_element mla_4s_element:vn
ldr_s_lsl_shifted: add_x_imm
ldr_w_imm: add_w_imm add_x_imm cbnz_w cbz_w eor_w ldr_w_imm ldr_x_imm mov_x stp_x str_w_imm subs_w subs_w:rm subs_w:rn
    subs_w_imm subs_w_imm:rn ubfm_w
ldr_w_lsl_shifted: add_x add_x_imm cbnz_w eor_w_lsr eor_w_lsr:rn str_w_post str_w_post:rt subs_w subs_w_imm
ldr_w_post: add_x_imm sub_x_imm
ldr_x_imm: add_x add_x:rn add_x_imm add_x_imm:rn cbnz_x cbz_x cbz_x:rt ldp_x_post ldr_w_imm ldr_x_imm ldr_x_imm:rn
    ldr_x_lsl_shifted ldrb_w_imm mov_w mov_x movz_w_0 stp_x str_x_imm str_x_imm:rt str_x_post sub_x_imm subs_x subs_x:rm
    subs_x:rn tbz ubfm_x
ldr_x_lsl_shifted: br br:rn ldr_x_lsl_shifted mov_x str_x_lsl_shifted str_x_post str_x_post:rt
ldrb_w_imm: add_x_imm cbnz_w cbnz_w:rt cbz_w cbz_w:rt ldrb_w_imm mov_x subs_w subs_w_imm subs_w_imm:rn
ldrb_w_lsl: cbz_w cbz_w:rt ldrb_w_lsl ldrb_w_uxtw movz_w_0 strb_w_lsl strb_w_lsl:rt subs_w subs_w:rm subs_w:rn
ldrb_w_post: eor_w eor_w:rn
ldrb_w_pre: mul_w
ldrb_w_uxtw: add_w ldrb_w_uxtw
ldrh_w_lsl_shifted: subs_w subs_w:rm
ldrsw_x_imm: mov_x sub_x_imm
ldrsw_x_lsl_shifted: add_w_imm add_x
ldrsw_x_post: ldp_x ldr_x_imm ldr_x_lsl_shifted ldr_x_lsl_shifted:rm str_x_post str_x_post:rt
lsr_x: cbz_x
madd_w: ldr_w_imm
mla_4s_element: subs_x_imm
mov_w: add_w add_x add_x:rm b mov_w mov_x sub_w_imm subs_w_imm subs_x_imm ubfm_x
mov_x: add_x_imm adrp b bl blr br ldp_x ldr_w_imm ldr_w_post ldr_x_imm ldrb_w_imm ldrsw_x_post mov_w mov_x movz_w_0
    movz_x_0 stp_x str_x_imm subs_w subs_x ubfm_x
movz_w_0: b bl ldrb_w_lsl movz_w_0 str_w_imm subs_w_imm
movz_x_0: b.ne mov_w str_x_imm subs_w_imm
msub_w: sub_w_imm
mul_w: cbnz_w sbfm_w sbfm_w:rn
orr_8b: orr_8b
rbit_x: clz_x
sbc_w: ret
sbfm_w: cbnz_w
sbfm_x: ldr_w_lsl_shifted ldr_w_lsl_shifted:rm mov_w
scvtf_d_w: fdiv_d fdiv_d:rm
shl_2s_imm: shl_2s_imm ushr_2s_imm
shrn_8b_imm: fmov_x_d
stp_x: add_x_imm adrp ldr_x_imm mov_x movz_x_0 stp_x sub_w_imm
stp_x_pre: add_x_imm
str_d_imm: fmadd_d ldr_d_lsl
str_d_lsl: subs_x_imm
str_d_post: subs_w_imm
str_w_imm: str_w_imm
str_w_lsl_shifted: add_x_imm subs_x
str_w_post: str_w_lsl_shifted subs_x_imm
str_x_imm: add_x_imm b br ldr_x_imm ldr_x_lsl_shifted mov_x movz_x_0 str_w_imm str_x_imm subs_w_imm
str_x_lsl: str_x_imm
str_x_lsl_shifted: br
str_x_post: ldr_x_lsl_shifted ldrsw_x_post mov_x
strb_w_lsl: add_x_imm strb_w_lsl
strb_w_post: subs_x
strb_w_uxtw: add_w
sub_w: movz_x_0
sub_w_imm: and_w_imm bl sbfm_x sub_w sub_w_imm
sub_x: ldrb_w_imm orr_x_imm str_x_imm subs_x
sub_x_imm: b ldr_x_imm ldr_x_lsl_shifted ldrsw_x_post str_w_imm str_w_post subs_w subs_x
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
ubfm_w: udiv_w udiv_w:rn
ubfm_x: add_x add_x:rm extr_w ldr_s_lsl_shifted ldr_w_lsl_shifted ldrsw_x_lsl_shifted
udiv_w: msub_w msub_w:rn
ushr_2s_imm: ldr_d_imm shl_2s_imm
"""

# Longer sequences, each an extension of one above.
_LONGER = """
add_w add_w mul_w:rm
add_w add_w mul_w:rm sbfm_w:rn
add_w add_w:rn add_w:rn
add_w add_w:rn ldrb_w_uxtw
add_w add_w:rn subs_w_imm:rn
add_w ldr_d_lsl_shifted add_w_imm
add_w ldr_d_lsl_shifted add_w_imm add_x_imm
add_w ldrb_w_uxtw add_w
add_w ldrb_w_uxtw ldrb_w_uxtw
add_w mul_w:rm sbfm_w:rn
add_w mul_w:rm sbfm_w:rn cbnz_w
add_w subs_w:rn b.ls
add_w subs_w_imm:rn b.eq
add_w_imm add_w_imm and_w_imm
add_w_imm add_x_imm scvtf_d_w
add_w_imm add_x_imm scvtf_d_w fdiv_d:rm
add_w_imm add_x_imm subs_w_imm
add_w_imm add_x_imm subs_w_imm b.ne
add_w_imm and_w_imm and_w_imm
add_w_imm fmadd_d fadd_d
add_w_imm fmadd_d fadd_d subs_w_imm
add_w_imm ldr_d_lsl fmsub_d:rn
add_w_imm ldr_d_lsl fmsub_d:rn str_d_post:rt
add_w_imm subs_w_imm:rn b.eq
add_x ldr_d_imm add_w_imm
add_x ldr_d_imm add_w_imm ldr_d_lsl
add_x ldrb_w_lsl:rn subs_w:rn
add_x ldrb_w_lsl:rn subs_w:rn b.ne
add_x subs_w b.ne
add_x subs_x b.lt
add_x_imm add_x subs_x
add_x_imm add_x subs_x b.lt
add_x_imm ldr_q_lsl mla_4s_element:vn
add_x_imm ldr_q_lsl mla_4s_element:vn subs_x_imm
add_x_imm ldrb_w_lsl subs_w:rm
add_x_imm ldrb_w_lsl subs_w:rm b.eq
add_x_imm scvtf_d_w fdiv_d:rm
add_x_imm scvtf_d_w fdiv_d:rm fmadd_d:rm
add_x_imm stp_x adrp
add_x_imm stp_x mov_x
add_x_imm stp_x movz_x_0
add_x_imm stp_x movz_x_0 subs_w_imm
add_x_imm str_x_imm:rt subs_w_imm
add_x_imm subs_w b.cc
add_x_imm subs_w b.ne
add_x_imm subs_w_imm b.ne
add_x_imm subs_x:rm b.ne
add_x_imm subs_x_imm:rn b.ne
add_x_sxtw ldp_x ldp_x_post
add_x_sxtw ldp_x ldp_x_post ret:rn
adrp ldr_x_imm:rn add_x_imm
adrp ldr_x_imm:rn add_x_imm br
and_w_imm and_w_imm ldrb_w_lsl
and_w_imm ldp_x add_x_sxtw
and_w_imm ldrb_w_lsl movz_w_0
and_w_imm sub_w_imm sub_w
and_x_ones ldr_w_lsl_shifted:rm eor_w_lsr:rn
and_x_ones ldr_w_lsl_shifted:rm eor_w_lsr:rn subs_x
and_x_ones ldrh_w_lsl_shifted:rm subs_w:rm
and_x_ones ldrh_w_lsl_shifted:rm subs_w:rm b.cs
csinc_w_ls sbc_w:rn ret
csneg_w_pl subs_w:rn b.eq
eor_w and_x_ones:rn ldr_w_lsl_shifted:rm
eor_w and_x_ones:rn ldr_w_lsl_shifted:rm eor_w_lsr:rn
eor_w_lsr subs_x b.ne
eor_x add_x_imm add_x
eor_x add_x_imm add_x subs_x
fadd_d add_w_imm fmadd_d
fadd_d add_w_imm fmadd_d fadd_d
fadd_d fcmpe_d:rn b.mi
fadd_d subs_w_imm b.ne
fdiv_d fmadd_d:rm subs_x_imm
fdiv_d fmadd_d:rm subs_x_imm b.eq
fdiv_d fmadd_d:rm subs_x_imm b.ne
fmadd_d fadd_d subs_w_imm
fmadd_d fadd_d subs_w_imm b.ne
fmadd_d subs_x_imm b.eq
fmadd_d subs_x_imm b.ne
fmsub_d str_d_post:rt subs_w_imm
fmsub_d str_d_post:rt subs_w_imm b.ne
fmul_d fadd_d:rm fcmpe_d:rn
fmul_d fadd_d:rm fcmpe_d:rn b.mi
fmul_d fmul_d fadd_d:rm
fmul_d fmul_d fadd_d:rm fcmpe_d:rn
fsub_d fadd_d add_w_imm
fsub_d fadd_d add_w_imm fmadd_d
ldp_x add_x_sxtw ldp_x
ldp_x eor_x add_x_imm
ldp_x eor_x add_x_imm add_x
ldp_x ldp_x ldp_x
ldp_x ldp_x ldp_x ldp_x
ldp_x ldp_x_post ret:rn
ldp_x mov_x ldp_x
ldr_d_imm add_w_imm ldr_d_lsl
ldr_d_imm add_w_imm ldr_d_lsl fmsub_d:rn
ldr_d_lsl fmsub_d:rn str_d_post:rt
ldr_d_lsl fmsub_d:rn str_d_post:rt subs_w_imm
ldr_d_lsl_shifted add_w_imm add_x_imm
ldr_d_lsl_shifted add_w_imm add_x_imm scvtf_d_w
ldr_q_lsl mla_4s_element:vn subs_x_imm
ldr_q_lsl mla_4s_element:vn subs_x_imm b.ne
ldr_s_lsl_shifted add_x_imm ldr_q_lsl
ldr_s_lsl_shifted add_x_imm ldr_q_lsl mla_4s_element:vn
ldr_w_imm add_x_imm subs_w
ldr_w_imm add_x_imm subs_w b.ne
ldr_w_imm ldr_w_imm subs_w:rm
ldr_w_imm ldr_w_imm subs_w:rm csinc_w_ls
ldr_w_imm subs_w:rm csinc_w_ls
ldr_w_imm subs_w:rm csinc_w_ls sbc_w:rn
ldr_w_lsl_shifted eor_w_lsr:rn subs_x
ldr_w_lsl_shifted eor_w_lsr:rn subs_x b.ne
ldr_w_post add_x_imm subs_w
ldr_w_post add_x_imm subs_w b.cc
ldr_w_post sub_x_imm subs_w
ldr_x_imm add_x_imm br
ldr_x_imm add_x_imm:rn str_x_imm:rt
ldr_x_imm ldp_x_post ret:rn
ldr_x_imm ldr_x_imm ldr_x_imm
ldr_x_imm ldr_x_imm subs_x:rm
ldr_x_imm str_x_imm:rt movz_x_0
ldr_x_imm subs_x:rm movz_x_0
ldrb_w_imm add_x_imm ldrb_w_lsl
ldrb_w_imm add_x_imm ldrb_w_lsl subs_w:rm
ldrb_w_lsl ldrb_w_lsl strb_w_lsl
ldrb_w_lsl ldrb_w_lsl strb_w_lsl strb_w_lsl
ldrb_w_lsl ldrb_w_uxtw ldrb_w_uxtw
ldrb_w_lsl movz_w_0 ldrb_w_lsl
ldrb_w_lsl strb_w_lsl strb_w_lsl
ldrb_w_lsl strb_w_lsl strb_w_lsl add_x_imm
ldrb_w_lsl subs_w:rm b.eq
ldrb_w_lsl subs_w:rn b.ne
ldrb_w_post eor_w:rn and_x_ones:rn
ldrb_w_post eor_w:rn and_x_ones:rn ldr_w_lsl_shifted:rm
ldrb_w_uxtw add_w add_w:rn
ldrb_w_uxtw add_w ldrb_w_uxtw
ldrb_w_uxtw ldrb_w_uxtw add_w
ldrh_w_lsl_shifted subs_w:rm b.cs
ldrsw_x_imm mov_x ldrsw_x_post
mla_4s_element subs_x_imm b.ne
mov_w add_x:rm ldrb_w_lsl:rn
mov_w add_x:rm ldrb_w_lsl:rn subs_w:rn
mov_w mov_w mov_w
mov_w mov_w mov_w mov_w
mov_w sub_w_imm bl
mov_x ldp_x ldp_x
mov_x ldr_w_post add_x_imm
mov_x ldr_w_post add_x_imm subs_w
mov_x ldr_w_post sub_x_imm
mov_x mov_x blr
mov_x mov_x mov_x
mov_x mov_x mov_x blr
movz_w_0 ldrb_w_lsl ldrb_w_uxtw
movz_x_0 mov_w sub_w_imm
movz_x_0 subs_w_imm b.eq
mul_w sbfm_w:rn cbnz_w
sbfm_x mov_w add_x:rm
sbfm_x mov_w add_x:rm ldrb_w_lsl:rn
scvtf_d_w fdiv_d:rm fmadd_d:rm
scvtf_d_w fdiv_d:rm fmadd_d:rm subs_x_imm
stp_x mov_x mov_x
stp_x movz_x_0 subs_w_imm
stp_x movz_x_0 subs_w_imm b.eq
stp_x sub_w_imm sub_w_imm
stp_x_pre add_x_imm stp_x
stp_x_pre add_x_imm stp_x movz_x_0
str_d_post subs_w_imm b.ne
str_w_post subs_x_imm ccmp_x_imm
str_w_post subs_x_imm ccmp_x_imm b.eq
strb_w_lsl add_x_imm subs_x:rm
strb_w_lsl add_x_imm subs_x:rm b.ne
strb_w_lsl add_x_imm subs_x_imm:rn
strb_w_lsl add_x_imm subs_x_imm:rn b.ne
strb_w_lsl strb_w_lsl add_x_imm
strb_w_lsl strb_w_lsl add_x_imm subs_x:rm
strb_w_uxtw add_w subs_w:rn
strb_w_uxtw add_w subs_w:rn b.ls
sub_w movz_x_0 mov_w
sub_w_imm and_w_imm sub_w_imm
sub_w_imm sub_w movz_x_0
sub_w_imm sub_w_imm and_w_imm
sub_x ldrb_w_imm add_x_imm
sub_x ldrb_w_imm add_x_imm ldrb_w_lsl
sub_x_imm subs_w b.hi
subs_w csinc_w_ls sbc_w:rn
subs_w csinc_w_ls sbc_w:rn ret
subs_w csneg_w_pl:rn subs_w:rn
subs_w csneg_w_pl:rn subs_w:rn b.eq
subs_x movz_x_0 b.ne
subs_x_imm ccmp_x_imm b.eq
ubfm_x ldr_s_lsl_shifted add_x_imm
ubfm_x ldr_s_lsl_shifted add_x_imm ldr_q_lsl
"""


def _parse() -> list[list[str]]:
    found: list[list[str]] = []
    for entry in _TABLE.replace("\n    ", " ").strip().splitlines():
        first, _, others = entry.partition(": ")
        found += [[first, other] for other in others.split()]
    return found + sorted((line.split() for line in _LONGER.strip().splitlines()), key=len)


SEQUENCES = _parse()
