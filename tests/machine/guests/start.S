# Entry points of the test guest: 64-bit mode with boot_params in rsi (Linux's boot protocol), 32-bit mode with hvm_start_info in ebx
# (PVH; the note is there with -DPVH), and the start of an application processor in real mode, copied to 8000h.
    .section .text.start, "ax"
    .globl start64
    .code64
start64:
    lea stack_top(%rip), %rsp
    mov %rsi, %rdi
    xor %esi, %esi
    call guest_main
1:  hlt
    jmp 1b

    .globl start32
    .code32
start32:
    mov $stack_top, %esp
    mov %ebx, %ebp
    lgdt gdt_pointer
    call enable_long
    ljmp $0x08, $start32_long
enable_long:
    # the page tables: 1 GiB as it is, in pages of 2 MiB
    movl $pdpt + 3, pml4
    movl $pd + 3, pdpt
    movl $pd + 0x1000 + 3, pdpt + 24
    mov $pd, %edi
    mov $0x83, %eax
    mov $512, %ecx
2:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    dec %ecx
    jnz 2b
    mov $0xc0000083, %eax
    mov $512, %ecx
3:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    dec %ecx
    jnz 3b
    mov $pml4, %eax
enter_long:
    mov %eax, %cr3
    mov $0x20, %eax
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    mov $0x100, %eax
    xor %edx, %edx
    wrmsr
    mov $0x80000011, %eax
    mov %eax, %cr0
    ret
    .code64
start32_long:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %ebp, %edi
    mov $1, %esi
    call guest_main
    hlt

    .globl ap_start, ap_end
    .code16
ap_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    mov $0x8000 + ap_gdt_pointer - ap_start, %si
    lgdtl (%si)
    mov $0x11, %eax
    mov %eax, %cr0
    ljmpl $0x18, $ap32
ap_gdt_pointer:
    .word 39
    .long gdt
ap_end:
    .code32
ap32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %ss
    mov $ap_stack_top, %esp
    mov boot_cr3, %eax
    call enter_long
    ljmp $0x08, $ap64
    .code64
ap64:
    call ap_main
4:  hlt
    jmp 4b

    .data
    .balign 8
    .globl gdt
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff, 0
gdt_pointer:
    .word 39
    .long gdt
    .globl boot_cr3
boot_cr3:
    .long 0

    .bss
    .balign 4096
pml4: .skip 4096
pdpt: .skip 4096
pd: .skip 8192
    .skip 16384
stack_top:
    .skip 8192
ap_stack_top:

#ifdef PVH
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long start32
#endif
    .section .note.GNU-stack, "", @progbits
