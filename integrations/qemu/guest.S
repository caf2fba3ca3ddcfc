/* SPDX-License-Identifier: MIT
 *
 * A guest that puts a different value into each of the twelve core PMU registers and into
 * GLOBAL_CTL, with a bit in GLOBAL_STATUS, and says what they read: when it begins, when it has
 * written them, and at each NMI, after which it writes 0 to all. A counter never counts meanwhile:
 * no selector is enabled. 32-bit protected mode, ELF with a PVH note, lines on the first serial port:
 *   REPORT boot
 *   READ c0010200 = 00000000000300a0
 *   READ c0000301 #GP
 *   REPORT-END
 * The other reports begin with "REPORT set" and "REPORT nmi".
 */
        .set PORT, 0x3f8
        .set LAPIC, 0xfee00000

        .section .note.pvh, "a", @note
        .balign 4
        .long 4, 4, 18                  /* name size, desc size, XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz "Xen"
        .long start

        .text
        .code32
        .globl start
start:
        cli
        cld
        lgdt gdt_pointer
        ljmp $0x08, $1f
1:      movl $0x10, %eax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movl $stack, %esp
        movl $gp_fault, %eax
        movl $idt + 8 * 13, %edi
        call put_gate
        movl $nmi, %eax
        movl $idt + 8 * 2, %edi
        call put_gate
        lidt idt_pointer
        movl $0x1ff, LAPIC + 0xf0       /* software enable */
        movl $0x400, LAPIC + 0x360      /* LINT1: deliver as NMI */

        movl $text_boot, %esi
        call report

        /* an overflow for GLOBAL_STATUS: counter 0 from -1, without an interrupt */
        movl $0xc0010201, %ecx
        movl $-1, %eax
        movl $0xffff, %edx
        wrmsr
        movl $0xc0000301, %ecx
        movl $1, %eax
        xorl %edx, %edx
        wrmsr
        movl $0xc0010200, %ecx
        movl $0x430076, %eax
        wrmsr
        movl $1000000, %ecx
2:      pause
        loop 2b
        movl $0xc0010200, %ecx
        xorl %eax, %eax
        xorl %edx, %edx
        wrmsr

        /* selectors 300a0 ... 300a5 with their enable bit off, counters 10 ... 15 */
        movl $0xc0010200, %ecx
        movl $0x300a0, %ebx
3:      movl %ebx, %eax
        xorl %edx, %edx
        wrmsr
        incl %ecx
        movl %ebx, %eax
        andl $0xf, %eax
        addl $0x10, %eax
        wrmsr
        incl %ecx
        incl %ebx
        cmpl $0x300a6, %ebx
        jne 3b
        movl $0xc0000301, %ecx
        movl $0x2a, %eax
        wrmsr
        movl $text_set, %esi
        call report
4:      hlt
        jmp 4b

nmi:    pushal
        movl $text_nmi, %esi
        call report
        movl $registers, %edi
1:      movl (%edi), %ecx
        addl $4, %edi
        jecxz 2f
        xorl %eax, %eax
        xorl %edx, %edx
        wrmsr
        jmp 1b
2:      movl $0xc0000302, %ecx          /* GLOBAL_STATUS_CLR */
        movl $0x3f, %eax
        wrmsr
        popal
        iret

report: pushal                          /* its first line is at esi */
        call put_text
        movl $registers, %edi
1:      movl (%edi), %ecx
        addl $4, %edi
        jecxz 3f
        movl $text_read, %esi
        call put_text
        movl %ecx, %eax
        call put_hex
        clc
        rdmsr
        jc 2f
        pushl %eax
        movl $text_equals, %esi
        call put_text
        movl %edx, %eax
        call put_hex
        popl %eax
        call put_hex
        movl $text_line, %esi
        call put_text
        jmp 1b
2:      movl $text_gp, %esi
        call put_text
        jmp 1b
3:      movl $text_end, %esi
        call put_text
        popal
        ret

gp_fault:                               /* skips RDMSR or WRMSR, two bytes, and sets carry */
        addl $4, %esp
        addl $2, (%esp)
        orl $1, 8(%esp)
        iret

put_gate:                               /* 32-bit interrupt gate to eax at edi */
        movw %ax, (%edi)
        movw $0x08, 2(%edi)
        movw $0x8e00, 4(%edi)
        shrl $16, %eax
        movw %ax, 6(%edi)
        ret

put_text:                               /* at esi; keeps all but esi */
        pushl %eax
        pushl %edx
        movw $PORT, %dx
1:      lodsb
        testb %al, %al
        jz 2f
        outb %al, %dx
        jmp 1b
2:      popl %edx
        popl %eax
        ret

put_hex:                                /* eax, eight digits */
        pushl %ecx
        pushl %edx
        movl $8, %ecx
        movw $PORT, %dx
1:      roll $4, %eax
        pushl %eax
        andl $0xf, %eax
        movb digits(%eax), %al
        outb %al, %dx
        popl %eax
        loop 1b
        popl %edx
        popl %ecx
        ret

        .section .rodata
        .balign 8
gdt:    .quad 0
        .quad 0x00cf9b000000ffff        /* 08: code, base 0, 4 GiB */
        .quad 0x00cf93000000ffff        /* 10: data */
gdt_end:
gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt
idt_pointer:
        .word 32 * 8 - 1
        .long idt
        .balign 4
registers:
        .long 0xc0010200, 0xc0010201, 0xc0010202, 0xc0010203, 0xc0010204, 0xc0010205
        .long 0xc0010206, 0xc0010207, 0xc0010208, 0xc0010209, 0xc001020a, 0xc001020b
        .long 0xc0000300, 0xc0000301, 0
digits: .ascii "0123456789abcdef"
text_boot:   .asciz "REPORT boot\n"
text_set:    .asciz "REPORT set\n"
text_nmi:    .asciz "REPORT nmi\n"
text_read:   .asciz "READ "
text_equals: .asciz " = "
text_line:   .asciz "\n"
text_gp:     .asciz " #GP\n"
text_end:    .asciz "REPORT-END\n"

        .bss
        .balign 16
idt:    .skip 32 * 8
        .skip 4096
stack:

        .section .note.GNU-stack, "", @progbits
