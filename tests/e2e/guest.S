/* SPDX-License-Identifier: MIT
 *
 * A guest that does to the AMD PMU what a kernel does, and says what came of it. 32-bit protected
 * mode, no paging, no devices but the local APIC and the debug console at port 0xe9.
 *
 * It is an ELF with a PVH note, so that one image boots with -kernel on the machines that go
 * through SeaBIOS (pc, q35) and on those that do not (microvm):
 * https://xenbits.xen.org/docs/unstable/misc/pvh.html
 *
 * The kernel command line (-append) is the program and the number of CPUs, one digit: "dirty 4".
 *   dirty   every CPU reports what it finds in each PMU register, then leaves all selectors at
 *           530076 (cycles, user and kernel, interrupt, enabled), as a kernel does whose counters
 *           are in use when the machine is reset, and reports what they read then
 *   out     OUT in a loop without end, one KVM_RUN exit each; for measurements
 *
 * Lines on the debug console, one register each, numbers in hexadecimal:
 *   cpu 0: begin
 *   cpu 0: rdmsr c0010000 = 0000000000000000
 *   cpu 0: rdmsr c0010200 #GP
 *   cpu 0: wrmsr c0010000 = 0000000000530076
 *   cpu 0: end
 * An NMI, with one CPU, gets another report: "cpu 0: nmi", the selectors, "cpu 0: end".
 * CPUs come one after the other, the boot CPU first; a line is never torn.
 */
        .set PORT_CONSOLE, 0xe9         /* QEMU: -device isa-debugcon */
        .set PORT_POST, 0x80            /* POST codes: a PC machine drops a write */
        .set STALE_SELECTOR, 0x530076
        .set LAPIC, 0xfee00000
        .set TRAMPOLINE, 0x8000         /* start-up IPI vector 08; no firmware uses it */
        .set NMI_VECTOR, 2
        .set GP_VECTOR, 13

/* ---- PVH note -------------------------------------------------------------------------------- */
        .section .note.pvh, "a", @note
        .balign 4
        .long 4, 4, 18                  /* name size, desc size, XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz "Xen"
        .long start

        .macro load_flat_segments
        movl $0x10, %eax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        .endm

        .text
        .code32
/* Entered with ebx = struct hvm_start_info, flat segments, interrupts off. */
        .globl start
start:
        cli
        cld
        lgdt gdt_pointer
        ljmp $0x08, $1f
1:      load_flat_segments
        movl $boot_stack, %esp
        lidt idt_pointer
        call fill_idt
        movl $0x1ff, LAPIC + 0xf0       /* software enable */
        movl $0x400, LAPIC + 0x360      /* LINT1, where a machine's NMI comes in: deliver as NMI */
        movl 24(%ebx), %esi             /* cmdline_paddr, low half */
        cmpb $'o', (%esi)
        je portio
1:      lodsb
        cmpb $' ', %al
        jne 1b
        movzbl (%esi), %eax
        subl $'0', %eax
        movl %eax, cpus
        call dirty
        jmp start_other_cpus

portio:
        movw $PORT_POST, %dx
1:      outb %al, %dx
        jmp 1b

sleep:
        cli
        hlt
        jmp sleep

/* ---- the report, and what is left behind ----------------------------------------------------- */
dirty:
        movl $text_begin, %esi
        call put_line_start
        call put_newline
        movl $all_registers, %edi
        call read_registers
        movl $selectors, %edi
        movl $STALE_SELECTOR, %ebx
        call write_registers
report_selectors:
        movl $selectors, %edi
        call read_registers
        movl $text_end, %esi
        call put_line_start
        jmp put_newline

/* Reads or writes (ebx) every register of the table at edi: {first, count, step} ... {0}. */
read_registers:
        movl $read_register, %ebp
        jmp for_each_register
write_registers:
        movl $write_register, %ebp
for_each_register:
1:      movl (%edi), %ecx
        jecxz 3f
        movl 4(%edi), %eax
        movl %eax, registers_left
2:      call *%ebp
        addl 8(%edi), %ecx
        decl registers_left
        jnz 2b
        addl $12, %edi
        jmp 1b
3:      ret

/* ecx = MSR. The #GP handler sets the carry flag and continues behind the instruction. */
read_register:
        movl $text_rdmsr, %esi
        call put_line_start
        call put_msr_name
        clc
        rdmsr
        jmp put_result

write_register:
        movl $text_wrmsr, %esi
        call put_line_start
        call put_msr_name
        movl %ebx, %eax
        xorl %edx, %edx
        clc
        wrmsr

put_result:                             /* edx:eax, or the carry flag */
        jc 1f
        pushl %eax
        movl $text_equals, %esi
        call put_text
        movl %edx, %eax
        call put_hex
        popl %eax
        call put_hex
        jmp put_newline
1:      movl $text_gp, %esi
        call put_text
        jmp put_newline

/* ---- the console: these keep ebx, ecx, edx, edi, ebp ----------------------------------------- */
put_line_start:                         /* "cpu N: " and the text at esi */
        pushl %esi
        movl $text_cpu, %esi
        call put_text
        movl LAPIC + 0x20, %eax         /* APIC ID in bits 31-24 */
        shrl $24, %eax
        call put_digit
        movl $text_colon, %esi
        call put_text
        popl %esi
put_text:
        lodsb
        testb %al, %al
        jz 1f
        outb %al, $PORT_CONSOLE
        jmp put_text
1:      ret

put_msr_name:
        movl %ecx, %eax
put_hex:                                /* eax, eight digits */
        pushl %ecx
        movl $8, %ecx
1:      roll $4, %eax
        pushl %eax
        call put_digit
        popl %eax
        loop 1b
        popl %ecx
        ret

put_digit:
        andb $0x0f, %al
        addb $'0', %al
        cmpb $'9', %al
        jbe 1f
        addb $'a' - '9' - 1, %al
1:      outb %al, $PORT_CONSOLE
        ret

put_newline:
        movb $'\n', %al
        outb %al, $PORT_CONSOLE
        ret

/* ---- faults ---------------------------------------------------------------------------------- */
fill_idt:
        movl $idt, %edi
        movl $32, %ecx
        movl $other_fault, %eax
1:      call put_gate
        addl $8, %edi
        loop 1b
        movl $idt + 8 * NMI_VECTOR, %edi
        movl $nmi_report, %eax
        call put_gate
        movl $idt + 8 * GP_VECTOR, %edi
        movl $gp_fault, %eax
put_gate:                               /* 32-bit interrupt gate to eax at edi */
        movl %eax, %edx
        movw %ax, (%edi)
        movw $0x08, 2(%edi)
        movw $0x8e00, 4(%edi)
        shrl $16, %edx
        movw %dx, 6(%edi)
        ret

/* Goes back without IRET, which some nested KVMs do not emulate in unpaged protected mode. */
gp_fault:                               /* stack: error code, eip, cs, eflags */
        movl 4(%esp), %eax
        addl $2, %eax                   /* RDMSR and WRMSR have two bytes */
        addl $16, %esp
        stc
        jmp *%eax

/* A report on demand: QMP's inject-nmi, with one CPU. Once a boot, as no IRET follows. */
nmi_report:
        movl $text_nmi, %esi
        call put_line_start
        call put_newline
        call report_selectors
        jmp sleep

other_fault:
        movl $text_fault, %esi
        call put_line_start
        call put_newline
        jmp sleep

/* ---- the other CPUs -------------------------------------------------------------------------- */
/* INIT and a start-up IPI to one after the other. Each is waited for, so that one stack does for
 * all and nothing must be locked (a nested KVM that emulates unpaged code may not make LOCK
 * atomic). */
start_other_cpus:
        movl $trampoline, %esi
        movl $TRAMPOLINE, %edi
        movl $trampoline_end - trampoline, %ecx
        rep movsb
        xorl %ebx, %ebx
1:      incl %ebx
        cmpl cpus, %ebx
        jae 4f
        movl $0, cpu_done
        movl %ebx, %eax
        shll $24, %eax
        movl %eax, LAPIC + 0x310        /* destination: APIC ID */
        movl $0x4500, LAPIC + 0x300     /* INIT, assert */
        movl $100, %ecx
2:      outb %al, $PORT_POST            /* time for it to arrive */
        loop 2b
        movl $0x4600 | (TRAMPOLINE >> 12), LAPIC + 0x300
3:      pause
        cmpl $0, cpu_done
        je 3b
        jmp 1b
4:      jmp sleep

        .code16
trampoline:
        cli
        xorw %ax, %ax
        movw %ax, %ds
        lgdtl TRAMPOLINE + trampoline_gdt - trampoline
        movl %cr0, %eax
        orl $1, %eax
        movl %eax, %cr0
        ljmpl $0x08, $other_cpu
trampoline_gdt:
        .word gdt_end - gdt - 1
        .long gdt
trampoline_end:

        .code32
other_cpu:
        load_flat_segments
        lidt idt_pointer
        movl $boot_stack, %esp
        cld
        call dirty
        movl $1, cpu_done
        jmp sleep

/* ---- data ------------------------------------------------------------------------------------ */
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

/* AMD64 Architecture Programmer's Manual, volume 2, 13.2 and appendix A: {first, count, step} */
        .balign 4
all_registers:
        .long 0xc0010000, 8, 1          /* PerfEvtSel0-3, PerfCtr0-3 (the K7 set) */
        .long 0xc0010200, 12, 1         /* PERF_CTL0, PERF_CTR0 ... PERF_CTL5, PERF_CTR5 */
        .long 0xc0000300, 2, 1          /* PerfCntrGlobalStatus, PerfCntrGlobalCtl */
        .long 0
selectors:
        .long 0xc0010000, 4, 1
        .long 0xc0010200, 6, 2
        .long 0

text_cpu:    .asciz "cpu "
text_colon:  .asciz ": "
text_begin:  .asciz "begin"
text_rdmsr:  .asciz "rdmsr "
text_wrmsr:  .asciz "wrmsr "
text_equals: .asciz " = "
text_gp:     .asciz " #GP"
text_nmi:    .asciz "nmi"
text_fault:  .asciz "fault"
text_end:    .asciz "end"

        .bss
        .balign 16
idt:    .skip 32 * 8
        .skip 1024
boot_stack:
cpus:   .skip 4
cpu_done:
        .skip 4
registers_left:
        .skip 4

        .section .note.GNU-stack, "", @progbits
